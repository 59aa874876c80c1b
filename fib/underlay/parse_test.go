package underlay

import (
	"testing"

	"onlink/internal/rtnl"
)

// message is a notification of one object.
func message(kind uint16, body ...byte) []byte {
	var b rtnl.Builder
	start := b.Begin(kind, 0, 1)
	b.B = append(b.B, body...)
	b.End(start)
	return b.B
}

// FuzzParse: no message, however malformed, may stop the watcher.
func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add(message(24, 2, 24, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0, 8, 0, 1, 0, 10, 58, 0, 0, 8, 0, 4, 0, 2, 0, 0, 0))
	f.Add(message(24, 10, 255, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0, 6, 0, 1, 0, 10, 58, 0, 0, 12, 0, 9, 0, 200, 0, 0, 0, 2, 0, 0, 0))
	f.Add(message(104, 2, 0, 4, 0, 0, 0, 0, 0, 8, 0, 1, 0, 7, 0, 0, 0, 5, 0, 2, 0, 1, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		for m := range rtnl.Messages(b).All() {
			if r, ok := parseRoute(m.Body); ok && !r.prefix.IsValid() {
				t.Errorf("a route without a prefix: %+v", r)
			}
			if a, _, ok := parseAddress(m.Body); ok && !a.local.IsValid() {
				t.Errorf("an address without one: %+v", a)
			}
			if l, ok := parseLink(m.Body); ok && l.name == "" {
				t.Errorf("a link without a name: %+v", l)
			}
			if o, ok := parseObject(m.Body); ok && o.id == 0 {
				t.Errorf("an object without ID: %+v", o)
			}
			parseRule(m.Body)
		}
	})
}
