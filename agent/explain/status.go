package explain

import (
	"context"
	"strings"
)

// Status is the list of this node's problems.
type Status interface {
	// Problems returns the problems of the node, one line each, as `status` has
	// them.
	Problems(ctx context.Context) ([]string, error)
}

// statusLink adds the lines of `status` that concern the address: they name it, its
// block, its pod, or the pod's device. They break nothing by themselves; a repair
// of a moment ago is among them.
type statusLink struct{ status Status }

func (l statusLink) check(ctx context.Context, t *trail) {
	lines, err := l.status.Problems(ctx)
	if err != nil {
		return // without them the chain stands
	}
	words := []string{t.To.String()}
	if t.route.Prefix.IsValid() && t.route.Prefix.Bits() > 0 {
		words = append(words, t.route.Prefix.String())
	}
	if t.place == here {
		words = append(words, t.pod.HostDevice, t.pod.Namespace+"/"+t.pod.Pod)
	}
	if t.from.IsValid() && t.From.IsValid() {
		words = append(words, t.source.HostDevice, podName(t))
	}
	for _, h := range t.hops {
		if h.tunnel {
			words = append(words, h.dev)
		}
	}
	for _, line := range lines {
		for _, w := range words {
			if mentions(line, w) {
				t.ok("status", "%s", line)
				break
			}
		}
	}
}

// mentions reports whether a line has a word, and not as a part of a longer one:
// 10.244.1.5 is not in 10.244.1.50.
func mentions(line, word string) bool {
	const inside = "0123456789abcdefghijklmnopqrstuvwxyz.-"
	for from := 0; word != ""; {
		i := strings.Index(line[from:], word)
		if i < 0 {
			return false
		}
		i += from
		end := i + len(word)
		before := i == 0 || !strings.ContainsRune(inside, rune(line[i-1]))
		after := end == len(line) || !strings.ContainsRune(inside, rune(line[end])) || line[end] == '.' && (end+1 == len(line) || line[end+1] == ' ')
		if before && after {
			return true
		}
		from = i + 1
	}
	return false
}
