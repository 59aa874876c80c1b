package shim

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Defaults of the two configuration keys that the shim reads itself.
const (
	DefaultSocket  = "/run/onlink/cni.sock" // conf key "socket": absolute path of the agent's unix socket
	DefaultTimeout = 60                     // conf key "timeout": seconds for the whole call
)

// newestVersion is the CNI version of answers to callers that give none.
const newestVersion = "1.1.0"

// conf holds the keys of the network configuration that the shim itself needs.
type conf struct {
	cniVersion string
	name       string // of the network
	socket     string
	timeout    int // seconds
}

// maxTimeout bounds the conf key "timeout", in seconds.
const maxTimeout = 3600

// maxDepth bounds nesting, as encoding/json does on the agent's side.
const maxDepth = 10000

// version returns the version of the answer: the caller's if it looks like a
// version, so that no caller can make the shim print its bytes back.
func (c conf) version() string {
	if c.cniVersion == "" || len(c.cniVersion) > 16 {
		return newestVersion
	}
	for i := range len(c.cniVersion) {
		if b := c.cniVersion[i]; b != '.' && (b < '0' || b > '9') {
			return newestVersion
		}
	}
	return c.cniVersion
}

// scanConf picks the shim's keys out of the top level of a JSON object. It checks
// structure only: the agent reads the same bytes strictly. On failure the
// returned conf holds the keys read so far. A call that ends a pod (ends) fails
// for no key that it can do without.
func scanConf(b []byte, ends bool) (conf, *failure) {
	c := conf{socket: DefaultSocket, timeout: DefaultTimeout}
	s := scanner{b: b}
	if err := s.object(&c); err != nil {
		return c, &failure{codeDecode, "network configuration is not a JSON object", err.Error() + " at byte " + strconv.Itoa(s.i)}
	}
	if c.socket == "" || c.socket[0] != '/' {
		return c, &failure{codeConfig, "invalid network configuration", "socket: want the absolute path of the agent's unix socket"}
	}
	if c.timeout < 1 || c.timeout > maxTimeout {
		if ends {
			c.timeout = DefaultTimeout
			return c, nil
		}
		return c, &failure{codeConfig, "invalid network configuration", "timeout: want whole seconds from 1 to " + strconv.Itoa(maxTimeout)}
	}
	return c, nil
}

// least returns a configuration with only the keys that the agent reads for DEL:
// version and name.
func (c conf) least() []byte {
	b := append(make([]byte, 0, 64), `{"cniVersion":`...)
	b = appendJSON(b, c.version())
	b = append(b, `,"name":`...)
	b = appendJSON(b, c.name)
	return append(b, '}')
}

// Errors of the scanner; the position is added by scanConf.
const (
	errEnd      textError = "unexpected end"
	errSyntax   textError = "unexpected character"
	errTrailing textError = "text after the object"
	errString   textError = "invalid string"
	errDepth    textError = "nested too deeply"
)

// scanner reads JSON (RFC 8259) without building values.
type scanner struct {
	b []byte
	i int
}

// object reads the whole text as one object and stores the known keys in c.
func (s *scanner) object(c *conf) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	if s.peek() == '}' {
		s.i++
		return s.end()
	}
	for {
		if err := s.member(c); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.i++
		case '}':
			s.i++
			return s.end()
		default:
			return s.unexpected()
		}
	}
}

// member reads one "key": value of the top level. A known key whose value has
// another type is left at an invalid value, so that the error of the agent or of
// scanConf names it.
func (s *scanner) member(c *conf) error {
	s.peek()
	key, err := s.str()
	if err != nil {
		return err
	}
	if err := s.expect(':'); err != nil {
		return err
	}
	s.peek()
	start := s.i
	if err := s.skip(); err != nil {
		return err
	}
	value := scanner{b: s.b[start:s.i]}
	switch key {
	case "cniVersion":
		c.cniVersion, _ = value.str()
	case "name":
		c.name, _ = value.str()
	case "socket":
		c.socket, _ = value.str()
	case "timeout":
		c.timeout, _ = strconv.Atoi(string(value.b)) // 0 on error: refused by scanConf
	}
	return nil
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) unexpected() error {
	if s.i >= len(s.b) {
		return errEnd
	}
	return errSyntax
}

func (s *scanner) expect(c byte) error {
	if s.peek() != c {
		return s.unexpected()
	}
	s.i++
	return nil
}

func (s *scanner) end() error {
	s.peek()
	if s.i < len(s.b) {
		return errTrailing
	}
	return nil
}

// skip passes one value. Inside containers it only follows strings and brackets;
// the agent reports the mistakes in there.
func (s *scanner) skip() error {
	var open []byte // the brackets that must close, innermost last
	for {
		switch c := s.peek(); c {
		case '{', '[':
			if len(open) == maxDepth {
				return errDepth
			}
			open = append(open, c+2) // '}' is '{'+2 and ']' is '['+2
			s.i++
			continue
		case '}', ']':
			if len(open) == 0 || open[len(open)-1] != c {
				return errSyntax
			}
			open = open[:len(open)-1]
			s.i++
		case ',', ':':
			if len(open) == 0 {
				return errSyntax
			}
			s.i++
			continue
		default:
			if err := s.scalar(c); err != nil {
				return err
			}
		}
		if len(open) == 0 {
			return nil
		}
	}
}

// scalar passes a string, number or word that starts with c.
func (s *scanner) scalar(c byte) error {
	if c == '"' {
		_, err := s.str()
		return err
	}
	if !s.word() {
		return s.unexpected()
	}
	return nil
}

// word passes a number or one of true, false and null, and reports whether it
// passed a byte.
func (s *scanner) word() bool {
	start := s.i
	for s.i < len(s.b) {
		c := s.b[s.i]
		if c != '-' && c != '+' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != 'E' {
			break
		}
		s.i++
	}
	return s.i > start
}

// str reads a string and returns it unescaped.
func (s *scanner) str() (string, error) {
	if s.i >= len(s.b) || s.b[s.i] != '"' {
		return "", s.unexpected()
	}
	s.i++
	start := s.i
	var out []byte
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			if out == nil {
				out = s.b[start:s.i]
			}
			s.i++
			return string(out), nil
		case c < 0x20:
			return "", errString
		case c == '\\':
			if out == nil {
				out = append(make([]byte, 0, 64), s.b[start:s.i]...)
			}
			var err error
			if out, err = s.escape(out); err != nil {
				return "", err
			}
		default:
			if out != nil {
				out = append(out, c)
			}
			s.i++
		}
	}
	return "", errEnd
}

// escape appends the character of the escape sequence at s.i.
func (s *scanner) escape(out []byte) ([]byte, error) {
	s.i++
	if s.i >= len(s.b) {
		return nil, errEnd
	}
	c := s.b[s.i]
	s.i++
	switch c {
	case '"', '\\', '/':
		return append(out, c), nil
	case 'b':
		return append(out, '\b'), nil
	case 'f':
		return append(out, '\f'), nil
	case 'n':
		return append(out, '\n'), nil
	case 'r':
		return append(out, '\r'), nil
	case 't':
		return append(out, '\t'), nil
	case 'u':
		r, ok := s.hex4()
		if !ok {
			return nil, errString
		}
		if utf16.IsSurrogate(r) {
			r = s.lowSurrogate(r)
		}
		return utf8.AppendRune(out, r), nil
	}
	return nil, errString
}

// lowSurrogate joins high with the \uXXXX that must follow it; a lone surrogate
// becomes U+FFFD and the following text stays unread.
func (s *scanner) lowSurrogate(high rune) rune {
	at := s.i
	if at+1 < len(s.b) && s.b[at] == '\\' && s.b[at+1] == 'u' {
		s.i += 2
		if low, ok := s.hex4(); ok {
			if r := utf16.DecodeRune(high, low); r != utf8.RuneError {
				return r
			}
		}
		s.i = at
	}
	return utf8.RuneError
}

func (s *scanner) hex4() (rune, bool) {
	if s.i+4 > len(s.b) {
		return 0, false
	}
	v, err := strconv.ParseUint(string(s.b[s.i:s.i+4]), 16, 16)
	if err != nil {
		return 0, false
	}
	s.i += 4
	return rune(v), true
}
