package shim

import "unicode/utf8"

// The CNI error codes that the shim itself returns (CNI 1.1.0, section 5).
const (
	codeEnvironment  = 4
	codeIO           = 5
	codeDecode       = 6
	codeConfig       = 7
	codeRetryLater   = 11
	codeNotAvailable = 50
	codeInternal     = 999
)

// failure is a CNI error object.
type failure struct {
	code    uint
	msg     string
	details string
}

// textError is an error that is a constant.
type textError string

func (e textError) Error() string { return string(e) }

// encode returns f as the text of a CNI error object.
func (f *failure) encode(version string) []byte {
	out := append([]byte(nil), `{"cniVersion":`...)
	out = appendJSON(out, version)
	out = append(out, `,"code":`...)
	out = appendUint(out, f.code)
	out = append(out, `,"msg":`...)
	out = appendJSON(out, f.msg)
	out = append(out, `,"details":`...)
	out = appendJSON(out, f.details)
	return append(out, "}\n"...)
}

func appendUint(b []byte, v uint) []byte {
	if v >= 10 {
		b = appendUint(b, v/10)
	}
	return append(b, byte('0'+v%10))
}

// appendJSON appends s as a JSON string (RFC 8259 section 7). Bytes that are
// not UTF-8 become U+FFFD, as a JSON text has no other way to hold them.
func appendJSON(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r < 0x20 || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&0xf])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
