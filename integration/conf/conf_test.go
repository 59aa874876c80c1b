package conf_test

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"onlink/agent/config"
	"onlink/integration/conf"
)

// example matches a commented key of the documented file: "#" that is not
// followed by exactly one space.
var example = regexp.MustCompile(`^( *)#(?: {2,}|)[^ \n]`)

// everyKey is the agent's documented file with its examples as keys, without
// those of etcd's user, which go with no other kind of registry. A test of
// agent/config proves that it has every key the agent reads.
func everyKey(t *testing.T) (text []byte, root *yaml.Node) {
	t.Helper()
	for line := range strings.Lines(string(config.DefaultYAML())) {
		if example.MatchString(line) {
			line = strings.Replace(line, "#", "", 1)
		}
		text = append(text, line...)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return text, doc.Content[0]
}

// TestKeys holds the types against the file with every key: each key has a
// field, and each field a key.
func TestKeys(t *testing.T) {
	t.Parallel()
	_, root := everyKey(t)
	fields := map[string]bool{} // false until the file has it
	collect(reflect.TypeFor[conf.Config](), fields)
	if err := visit(root, reflect.TypeFor[conf.Config](), fields); err != nil {
		t.Error(err)
	}
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if !fields[field] {
			t.Errorf("%s: the documented file has no such key", field)
		}
	}
	if len(fields) < 80 {
		t.Errorf("only %d fields were looked at", len(fields))
	}
}

// TestSameToAgent: what the types write means to the agent what they read.
func TestSameToAgent(t *testing.T) {
	t.Parallel()
	text, root := everyKey(t)
	if err := visit(root, reflect.TypeFor[conf.Config](), map[string]bool{}); err != nil {
		t.Fatal(err)
	}
	var c conf.Config
	if err := root.Decode(&c); err != nil {
		t.Fatal(err)
	}
	c.IPAM.Registry.User, c.IPAM.Registry.PasswordFile = "", "" // etcd's; the file shows several kinds at once
	written, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	etcd := regexp.MustCompile(`(?m)^    (user|passwordFile): .*etcd.*$|^    user: .*$`)
	want, err := config.Parse("documented", etcd.ReplaceAll(text, nil))
	if err != nil {
		t.Fatal(err)
	}
	got, err := config.Parse("written", written)
	if err != nil {
		t.Fatalf("%v\n%s", err, written)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})); diff != "" {
		t.Errorf("-want +got\n%s\n%s", diff, written)
	}
}

// collect notes every field of t and of what is in it as not yet seen.
func collect(t reflect.Type, fields map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		collect(t.Elem(), fields)
	case reflect.Struct:
		for f := range t.Fields() {
			if _, known := fields[t.Name()+"."+key(f)]; !known {
				fields[t.Name()+"."+key(f)] = false
				collect(f.Type, fields)
			}
		}
	default:
	}
}

// key is a field's name in the file.
func key(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

// visit follows a value of the file through its type and marks the fields that
// it has. A short form, such as a prefix for a rule, becomes the long one.
func visit(n *yaml.Node, t reflect.Type, fields map[string]bool) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Slice && n.Kind == yaml.ScalarNode: // one for a list of one
		*n = yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{new(*n)}}
	case t.Kind() == reflect.Struct && n.Kind == yaml.ScalarNode:
		name := "prefix"
		if _, ok := t.FieldByName("Address"); ok {
			name = "address"
		}
		*n = yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: name}, new(*n)}}
	}
	for i, child := range n.Content {
		switch t.Kind() {
		case reflect.Slice:
			if err := visit(child, t.Elem(), fields); err != nil {
				return err
			}
		case reflect.Map, reflect.Struct:
			if i%2 == 0 {
				continue
			}
			in, err := below(t, n.Content[i-1].Value, fields)
			if err == nil {
				err = visit(child, in, fields)
			}
			if err != nil {
				return err
			}
		default:
		}
	}
	return nil
}

// below is the type of a key's value in a map or struct.
func below(t reflect.Type, name string, fields map[string]bool) (reflect.Type, error) {
	if t.Kind() == reflect.Map {
		return t.Elem(), nil
	}
	for f := range t.Fields() {
		if key(f) == name {
			fields[t.Name()+"."+name] = true
			return f.Type, nil
		}
	}
	return nil, fmt.Errorf("%s has no field for the key %s of the agent", t.Name(), name)
}

// TestEmpty: what is left out has its default, and what is empty has not.
func TestEmpty(t *testing.T) {
	t.Parallel()
	zero := new(0)
	for _, tt := range []struct {
		name string
		c    conf.Config
		want string
	}{
		{"nothing", conf.Config{}, "{}\n"},
		{"no pools", conf.Config{Pools: conf.List[conf.Pool]{}}, "pools: []\n"},
		{"reflector", conf.Config{BGP: conf.BGP{Reflector: &conf.Reflector{}}}, "bgp:\n    reflector: {}\n"},
		{"own", conf.Config{BGP: conf.BGP{Peers: []*conf.Peer{{Export: conf.Export{Own: new(false)}}}}}, "bgp:\n    peers:\n        - export:\n            own: false\n"},
		{"rule", conf.Config{BGP: conf.BGP{Filters: []conf.Filter{{Rules: []conf.FilterRule{{Set: conf.FilterSet{MED: zero}}}}}}}, "bgp:\n    filters:\n        - rules:\n            - set:\n                med: 0\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text, err := tt.c.YAML()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(text)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
