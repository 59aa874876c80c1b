// Package proto_test holds the wire against that of the last commit: onlinkctl, agents,
// registries and onlink-kube of two versions speak with each other during an upgrade,
// and programs read the JSON of onlinkctl.
package proto_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	onlinkv1 "onlink/proto/v1"
)

var (
	update = flag.Bool("update", false, "write the present descriptors, as make generate does")
	breaks = flag.Bool("allow-breaking", false, "with -update: write them though they break older programs")
)

// landed is the file of the last landed descriptors.
var landed = filepath.Join("testdata", "onlink.v1.binpb")

// TestBreaking: no message, field, enum value, service or method of the last landed
// descriptors is removed, renumbered, renamed or of another type.
func TestBreaking(t *testing.T) {
	now := present(t)
	before := &descriptorpb.FileDescriptorSet{}
	raw, err := os.ReadFile(landed)
	if err == nil {
		err = proto.Unmarshal(raw, before)
	}
	if err != nil && !*update {
		t.Fatal(err)
	}
	broken := breaking(before, now)
	if *update {
		if len(broken) > 0 && !*breaks {
			t.Fatalf("not written, because they break older programs (-allow-breaking):\n%s", strings.Join(broken, "\n"))
		}
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(now)
		if err == nil {
			err = os.WriteFile(landed, raw, 0o644) //nolint:gosec // source
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, b := range broken {
		t.Error(b)
	}
	if len(broken) > 0 {
		t.Log("give new fields new numbers and leave the old ones; a method gets a successor of another name")
	}
	if added := breaking(now, before); len(broken) == 0 && len(added) > 0 {
		t.Logf("%d additions since the last make generate", len(added))
	}
}

// present returns the descriptors of this build.
func present(t *testing.T) *descriptorpb.FileDescriptorSet {
	t.Helper()
	out := &descriptorpb.FileDescriptorSet{}
	name := onlinkv1.File_admin_proto.Package()
	protoregistry.GlobalFiles.RangeFilesByPackage(name, func(f protoreflect.FileDescriptor) bool {
		out.File = append(out.File, protodesc.ToFileDescriptorProto(f))
		return true
	})
	slices.SortFunc(out.File, func(a, b *descriptorpb.FileDescriptorProto) int { return strings.Compare(a.GetName(), b.GetName()) })
	if len(out.GetFile()) < 3 {
		t.Fatalf("only %d files in package %s", len(out.GetFile()), name)
	}
	return out
}

// breaking returns what of the first set the second breaks.
func breaking(before, now *descriptorpb.FileDescriptorSet) []string {
	old, current := facts(before), facts(now)
	var out []string
	for name, was := range old {
		switch is, there := current[name]; {
		case !there:
			out = append(out, name+" is gone")
		case is != was:
			out = append(out, fmt.Sprintf("%s was %s and is %s", name, was, is))
		}
	}
	slices.Sort(out)
	return out
}

// facts are the parts of descriptors that a program of another version relies on, by
// name: what each is, as text.
func facts(set *descriptorpb.FileDescriptorSet) map[string]string {
	out := map[string]string{}
	for _, f := range set.GetFile() {
		for _, m := range f.GetMessageType() {
			messageFacts(out, f.GetPackage(), m)
		}
		for _, e := range f.GetEnumType() {
			enumFacts(out, f.GetPackage(), e)
		}
		for _, s := range f.GetService() {
			name := f.GetPackage() + "." + s.GetName()
			out["service "+name] = "a service"
			for _, m := range s.GetMethod() {
				out["method "+name+"."+m.GetName()] = fmt.Sprintf("(%s%s) returns (%s%s)",
					stream(m.GetClientStreaming()), m.GetInputType(), stream(m.GetServerStreaming()), m.GetOutputType())
			}
		}
	}
	return out
}

func messageFacts(out map[string]string, scope string, m *descriptorpb.DescriptorProto) {
	name := scope + "." + m.GetName()
	out["message "+name] = "a message"
	for _, f := range m.GetField() {
		oneof := ""
		if f.OneofIndex != nil && !f.GetProto3Optional() {
			oneof = " in oneof " + m.GetOneofDecl()[f.GetOneofIndex()].GetName()
		}
		presence := strings.ToLower(strings.TrimPrefix(f.GetLabel().String(), "LABEL_"))
		if f.GetProto3Optional() {
			presence = "with presence"
		}
		kind := strings.ToLower(strings.TrimPrefix(f.GetType().String(), "TYPE_"))
		out[fmt.Sprintf("field %s number %d", name, f.GetNumber())] = fmt.Sprintf("%s %s %s %s%s", f.GetName(), presence, kind, f.GetTypeName(), oneof)
	}
	for _, inner := range m.GetNestedType() {
		messageFacts(out, name, inner)
	}
	for _, e := range m.GetEnumType() {
		enumFacts(out, name, e)
	}
}

func enumFacts(out map[string]string, scope string, e *descriptorpb.EnumDescriptorProto) {
	name := scope + "." + e.GetName()
	out["enum "+name] = "an enum"
	for _, v := range e.GetValue() {
		out[fmt.Sprintf("enum value %s number %d", name, v.GetNumber())] = v.GetName()
	}
}

func stream(is bool) string {
	if is {
		return "stream "
	}
	return ""
}

// TestBreakingFinds edits copies of the present descriptors in each way that breaks
// older programs, and in ways that do not.
func TestBreakingFinds(t *testing.T) {
	now := present(t)
	message := func(s *descriptorpb.FileDescriptorSet, name string) *descriptorpb.DescriptorProto {
		for _, f := range s.GetFile() {
			for _, m := range f.GetMessageType() {
				if m.GetName() == name {
					return m
				}
			}
		}
		t.Fatalf("no message %s", name)
		return nil
	}
	service := func(s *descriptorpb.FileDescriptorSet) *descriptorpb.ServiceDescriptorProto {
		for _, f := range s.GetFile() {
			if len(f.GetService()) > 0 {
				return f.GetService()[0]
			}
		}
		t.Fatal("no service")
		return nil
	}
	for _, c := range []struct {
		name string
		edit func(s *descriptorpb.FileDescriptorSet)
		want string // "": nothing is broken
	}{
		{"nothing", func(*descriptorpb.FileDescriptorSet) {}, ""},
		{"a field added", func(s *descriptorpb.FileDescriptorSet) {
			m := message(s, "Status")
			m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{Name: new("new"), Number: proto.Int32(9999)})
		}, ""},
		{"a method added", func(s *descriptorpb.FileDescriptorSet) {
			svc := service(s)
			svc.Method = append(svc.Method, &descriptorpb.MethodDescriptorProto{Name: new("New")})
		}, ""},
		{"a message moved to another file", func(s *descriptorpb.FileDescriptorSet) {
			m := message(s, "Status")
			f := s.GetFile()[0]
			f.MessageType = slices.DeleteFunc(f.GetMessageType(), func(x *descriptorpb.DescriptorProto) bool { return x == m })
			last := s.GetFile()[len(s.GetFile())-1]
			last.MessageType = append(last.GetMessageType(), m)
		}, ""},
		{"a field removed", func(s *descriptorpb.FileDescriptorSet) {
			m := message(s, "Status")
			m.Field = m.GetField()[1:]
		}, "field onlink.v1.Status number 1 is gone"},
		{"a field renumbered", func(s *descriptorpb.FileDescriptorSet) { message(s, "Status").GetField()[0].Number = proto.Int32(9999) }, "field onlink.v1.Status number 1 is gone"},
		{"a field renamed", func(s *descriptorpb.FileDescriptorSet) { message(s, "Status").GetField()[0].Name = new("x") }, "number 1 was node "},
		{"another type", func(s *descriptorpb.FileDescriptorSet) {
			message(s, "Status").GetField()[0].Type = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()
		}, "is node optional bytes"},
		{"a field repeated", func(s *descriptorpb.FileDescriptorSet) {
			message(s, "Status").GetField()[0].Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}, "is node repeated string"},
		{"a message removed", func(s *descriptorpb.FileDescriptorSet) { message(s, "Peer").Name = new("Neighbour") }, "message onlink.v1.Peer is gone"},
		{"a method removed", func(s *descriptorpb.FileDescriptorSet) { svc := service(s); svc.Method = svc.GetMethod()[1:] }, "is gone"},
		{"a method that streams", func(s *descriptorpb.FileDescriptorSet) { service(s).GetMethod()[0].ServerStreaming = new(true) }, "returns (stream "},
		{"an enum value renumbered", func(s *descriptorpb.FileDescriptorSet) {
			for _, f := range s.GetFile() {
				if len(f.GetEnumType()) > 0 {
					f.GetEnumType()[0].GetValue()[1].Number = proto.Int32(77)
					return
				}
			}
		}, "enum value "},
	} {
		t.Run(c.name, func(t *testing.T) {
			edited := proto.CloneOf(now)
			c.edit(edited)
			got := breaking(now, edited)
			if c.want == "" && len(got) > 0 || c.want != "" && !slices.ContainsFunc(got, func(b string) bool { return strings.Contains(b, c.want) }) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
