package monitoring

import (
	"fmt"
	"strings"
)

// selector is a metric that a query reads, and the labels that it matches.
type selector struct {
	metric string
	labels []string
}

// selectors returns the metrics of a query in PromQL: names that are no function, no
// keyword and no label. It is for the queries of this folder, not a whole parser.
func selectors(expr string) ([]selector, error) {
	var out []selector
	r := &reader{text: expr}
	for r.skipSpace(); r.text != ""; r.skipSpace() {
		switch c := r.text[0]; {
		case c == '"':
			if err := r.quoted(); err != nil {
				return nil, err
			}
		case c == '[':
			if _, after, closed := strings.Cut(r.text, "]"); closed {
				r.text = after
				continue
			}
			return nil, fmt.Errorf("a range without its end: %s", r.text)
		case letter(c):
			s, err := r.name()
			if err != nil {
				return nil, err
			}
			if s.metric != "" {
				out = append(out, s)
			}
		case '0' <= c && c <= '9': // a number, or a duration
			r.word()
		default:
			r.text = r.text[1:]
		}
	}
	return out, nil
}

// reader reads a query from its beginning.
type reader struct{ text string }

func (r *reader) skipSpace() { r.text = strings.TrimLeft(r.text, " \n\t") }

func letter(c byte) bool {
	return c == '_' || c == ':' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// word reads letters and digits.
func (r *reader) word() string {
	n := 0
	for n < len(r.text) && (letter(r.text[n]) || '0' <= r.text[n] && r.text[n] <= '9' || r.text[n] == '.') {
		n++
	}
	word := r.text[:n]
	r.text = r.text[n:]
	return word
}

// name reads a metric with its matchers; or a function or keyword, which is no metric.
func (r *reader) name() (selector, error) {
	word := r.word()
	r.skipSpace()
	switch word {
	case "by", "without", "on", "ignoring", "group_left", "group_right": // a list of labels follows
		_, after, closed := strings.Cut(r.text, ")")
		if !closed {
			return selector{}, fmt.Errorf("%s without its labels", word)
		}
		r.text = after
		return selector{}, nil
	case "and", "or", "unless", "offset", "bool":
		return selector{}, nil
	case "sum", "min", "max", "avg", "count": // also before by
		return selector{}, nil
	}
	if strings.HasPrefix(r.text, "(") {
		return selector{}, nil // a function
	}
	s := selector{metric: word}
	if !strings.HasPrefix(r.text, "{") {
		return s, nil
	}
	r.text = r.text[1:]
	for {
		r.text = strings.TrimLeft(r.text, " \n\t,")
		if after, closed := strings.CutPrefix(r.text, "}"); closed {
			r.text = after
			return s, nil
		}
		label := r.word()
		r.text = strings.TrimLeft(r.text, "=!~ ")
		if err := r.quoted(); label == "" || err != nil {
			return s, fmt.Errorf("matchers of %s: %q", word, r.text)
		}
		s.labels = append(s.labels, label)
	}
}

// quoted reads a string.
func (r *reader) quoted() error {
	if !strings.HasPrefix(r.text, `"`) {
		return fmt.Errorf("no string: %s", r.text)
	}
	for i := 1; i < len(r.text); i++ {
		switch r.text[i] {
		case '\\':
			i++
		case '"':
			r.text = r.text[i+1:]
			return nil
		}
	}
	return fmt.Errorf("a string without its end: %s", r.text)
}
