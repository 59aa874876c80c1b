package shim

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	onlinkv1 "onlink/proto/v1"
)

// TestScanConf reads configurations as the shim does.
func TestScanConf(t *testing.T) {
	tests := []struct {
		name, text string
		want       conf
		code       uint
	}{
		{"empty object", `{}`, conf{"", "", DefaultSocket, 60}, 0},
		{"all keys", ` {"a":[{"socket":"/no"}],"cniVersion":"1.0.0","timeout":5,"socket":"/run/a.sock","b":null} `, conf{"1.0.0", "", "/run/a.sock", 5}, 0},
		{"escapes", `{"socket":"\/a\u002fb\t\"\\","cniVersion":"1.\u0030.0"}`, conf{"1.0.0", "", "/a/b\t\"\\", 60}, 0},
		{"surrogates", `{"socket":"/\ud83d\ude00\ud83dx"}`, conf{"", "", "/\U0001F600\uFFFDx", 60}, 0},
		{"last one counts", `{"timeout":5,"timeout":6}`, conf{"", "", DefaultSocket, 6}, 0},
		{"brackets in strings", `{"x":"}]{[\\\"","timeout":7}`, conf{"", "", DefaultSocket, 7}, 0},
		{"fraction of a second", `{"timeout":1.5}`, conf{}, codeConfig},
		{"timeout zero", `{"timeout":0}`, conf{}, codeConfig},
		{"timeout of an hour and more", `{"timeout":3601}`, conf{}, codeConfig},
		{"socket is a number", `{"socket":1}`, conf{}, codeConfig},
		{"null", `null`, conf{}, codeDecode},
		{"two objects", `{}{}`, conf{}, codeDecode},
		{"no colon", `{"a" 1}`, conf{}, codeDecode},
		{"no value", `{"a":}`, conf{}, codeDecode},
		{"trailing comma", `{"a":1,}`, conf{}, codeDecode},
		{"wrong bracket", `{"a":[1}`, conf{}, codeDecode},
		{"open string", `{"a`, conf{}, codeDecode},
		{"control character", "{\"a\n\":1}", conf{}, codeDecode},
		{"bad escape", `{"a\q":1}`, conf{}, codeDecode},
		{"short unicode escape", `{"a\u12":1}`, conf{}, codeDecode},
		{"deep", `{"a":` + strings.Repeat("[", maxDepth+1), conf{}, codeDecode},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, fail := scanConf([]byte(tt.text), false)
			switch {
			case tt.code == 0 && (fail != nil || got != tt.want):
				t.Errorf("got %+v, %+v; want %+v", got, fail, tt.want)
			case tt.code != 0 && (fail == nil || fail.code != tt.code):
				t.Errorf("got %+v, %+v; want code %d", got, fail, tt.code)
			}
		})
	}
}

// FuzzScanConf compares the scanner with encoding/json: a text that it accepts as
// an object, ours accepts with the same values.
func FuzzScanConf(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.0.0","socket":"/a\u0041","timeout":5,"x":[{"y":1e9}]}`))
	f.Add([]byte(`{"a":tru}`))
	f.Add([]byte("{\"socket\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, fail := scanConf(text, false)
		if fail != nil && (fail.code == 0 || fail.msg == "") {
			t.Fatalf("failure without code or message: %+v", fail)
		}
		var all map[string]json.RawMessage
		if json.Unmarshal(text, &all) != nil || all == nil {
			return
		}
		if fail != nil && fail.code == codeDecode {
			t.Fatalf("refused %q: %s", text, fail.details)
		}
		var want string
		if raw, ok := all["cniVersion"]; ok && json.Unmarshal(raw, &want) == nil && string(raw) != "null" {
			// encoding/json replaces bytes that are not UTF-8; version() does not echo those.
			if want != got.cniVersion && !strings.Contains(want, "\ufffd") {
				t.Fatalf("cniVersion of %q: got %q, want %q", text, got.cniVersion, want)
			}
		}
	})
}

// FuzzRun runs the whole plugin against no agent: it always prints one JSON
// object and exits with 1, except for VERSION.
func FuzzRun(f *testing.F) {
	f.Add("ADD", "id", "eth0", "A=1", []byte(`{"cniVersion":"1.0.0","name":"x"}`))
	f.Add("VERSION", "", "", "", []byte(`{"cniVersion":"\u0000"}`))
	f.Add("", "\xff", "", "", []byte(`[`))
	f.Fuzz(func(t *testing.T, verb, id, ifname, args string, stdin []byte) {
		var conf struct{ Socket string }
		if json.Unmarshal(stdin, &conf) == nil && conf.Socket != "" {
			return // no sockets of this machine
		}
		env := map[string]string{"CNI_COMMAND": verb, "CNI_CONTAINERID": id, "CNI_IFNAME": ifname, "CNI_ARGS": args}
		var out, errs bytes.Buffer
		code := Run(Process{Getenv: func(k string) string { return env[k] }, Stdin: bytes.NewReader(stdin), Stdout: &out, Stderr: &errs})
		var object map[string]any
		if err := json.Unmarshal(out.Bytes(), &object); err != nil || object["cniVersion"] == "" {
			t.Fatalf("printed %q: %v", out.String(), err)
		}
		if (code == 0) != (verb == "VERSION") || code > 1 {
			t.Fatalf("exit code %d for %q", code, verb)
		}
	})
}

// FuzzReply compares the reply decoder with the protobuf runtime.
func FuzzReply(f *testing.F) {
	f.Add([]byte("\x0a\x02hi\x10\x01"))
	f.Add([]byte("\x1d\x00\x00\x00\x00\x21\x00\x00\x00\x00\x00\x00\x00\x00\x0a\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		stdout, code, err := parseReply(b)
		var want onlinkv1.CNIReply
		if proto.Unmarshal(b, &want) != nil {
			return // the runtime also refuses parts that we skip unread
		}
		if err != nil {
			if hasUnknown(&want) {
				return
			}
			t.Fatalf("refused %x: %v", b, err)
		}
		if !bytes.Equal(stdout, want.GetStdout()) || code != int(want.GetExitCode()&0xff) {
			t.Fatalf("%x: got %q, %d; want %v", b, stdout, code, &want)
		}
	})
}

// hasUnknown reports whether the message has unknown fields; among them may be
// groups, which proto3 does not have and the shim refuses.
func hasUnknown(m *onlinkv1.CNIReply) bool { return len(m.ProtoReflect().GetUnknown()) > 0 }

// TestImports pins the plugin's packages: each one more costs every pod start.
func TestImports(t *testing.T) {
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the Go toolchain")
	}
	out, err := exec.CommandContext(t.Context(), tool, "list", "-deps", "onlink/cmd/onlink-cni").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := strings.Fields(`cmp errors io iter math/bits onlink/cmd/onlink-cni onlink/cni/shim runtime slices
		strconv sync sync/atomic syscall unicode/utf16 unicode/utf8 unsafe`)
	for p := range strings.FieldsSeq(string(out)) {
		if !strings.HasPrefix(p, "internal/") && !slices.Contains(allowed, p) {
			t.Errorf("the plugin imports %s", p)
		}
	}
}
