package config

import (
	"reflect"
	"strings"
	"unicode"

	"onlink/internal/strictyaml"
)

// This file names the parts of a configuration by their keys in the file, such as
// bgp.asn and bgp.peers: sections key by key; lists, and fields with the tag
// `key`, whole.

// Keys returns every key that [Diff] can return, in the order of the types.
func Keys() []string {
	var keys []string
	var zero Config
	walk("", reflect.ValueOf(zero), reflect.ValueOf(zero), func(key string, _ bool) { keys = append(keys, key) })
	return keys
}

// Diff returns the keys whose values differ. An optional section that only one of
// them has is named by its own key too: bgp.reflector.
func Diff(a, b *Config) []string {
	var keys []string
	walk("", reflect.ValueOf(*a), reflect.ValueOf(*b), func(key string, same bool) {
		if !same {
			keys = append(keys, key)
		}
	})
	return keys
}

// walk calls visit for every key of two structs.
func walk(path string, a, b reflect.Value, visit func(key string, same bool)) {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		name, whole := f.Tag.Lookup("key")
		if name == "-" {
			continue
		}
		if !whole {
			name = keyOf(f.Name)
		}
		key, x, y := strictyaml.Join(path, name), a.Field(i), b.Field(i)
		switch {
		case !whole && section(f.Type):
			walk(key, x, y, visit)
		case !whole && f.Type.Kind() == reflect.Pointer && section(f.Type.Elem()):
			visit(key, x.IsNil() == y.IsNil())
			walk(key, pointed(x), pointed(y), visit)
		default:
			visit(key, reflect.DeepEqual(x.Interface(), y.Interface()))
		}
	}
}

// section reports whether a type is a mapping of the file: a struct of this
// package or of the room that owns the section, unlike the structs of net/netip,
// which are values.
func section(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && strings.HasPrefix(t.PkgPath(), "onlink/")
}

// pointed returns the value that p points to, the zero value where p is nil.
func pointed(p reflect.Value) reflect.Value {
	if p.IsNil() {
		return reflect.Zero(p.Type().Elem())
	}
	return p.Elem()
}

// keyOf returns the key of a field's name: ASN is asn, RouterID routerID.
func keyOf(name string) string {
	capitals := len(name) - len(strings.TrimLeftFunc(name, unicode.IsUpper))
	if capitals > 1 && capitals < len(name) {
		capitals-- // the last one begins the next word
	}
	return strings.ToLower(name[:capitals]) + name[capitals:]
}
