package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPage: the page in docs is that of the .proto files.
func TestPage(t *testing.T) {
	want, err := page("../../proto/v1")
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../docs/reference/api.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(have)); diff != "" {
		t.Errorf("run make reference (-want +have):\n%s", diff)
	}
	for _, part := range []string{"### Admin", "### Registry", "### CNI", "| `GetStatus` | [GetStatusRequest](#getstatusrequest) | [Status](#status) |", "| `BackupIPAM` | [BackupIPAMRequest](#backupipamrequest) | stream ["} {
		if !strings.Contains(want, part) {
			t.Errorf("the page has no %q", part)
		}
	}
}

const small = `// A file.
syntax = "proto3";

package x;
import "google/protobuf/duration.proto";

// Does things.
service S {
  rpc Do(Q) returns (stream Q); // once
}

message Empty {}
message One { Q q = 1; }

// A question,
// of two lines.
message Q {
  reserved 4;
  repeated string names = 1; // a | b_c
  // Above
  map<string, Q> parts = 2; // and behind.
  oneof way {
    google.protobuf.Duration after = 3;
  }
}

enum E {
  E_NONE = 0;
}
`

// TestSmall reads everything that a file of this tree has.
func TestSmall(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.proto")
	if err := os.WriteFile(file, []byte(small), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := page(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := intro + "\n## a.proto\n\nA file.\n\n### S\n\nDoes things.\n\n| method | request | reply | |\n|---|---|---|---|\n| `Do` | [Q](#q) | stream [Q](#q) | once |\n" +
		"\n### Empty\n\nIt has no field.\n\n### One\n\n| field | type | number | |\n|---|---|---|---|\n| `q` | [Q](#q) | 1 |  |\n\n### Q\n\nA question, of two lines.\n\n| field | type | number | |\n|---|---|---|---|\n| `names` | repeated string | 1 | a \\| b\\_c |\n" +
		"| `parts` | map\\<string, [Q](#q)\\> | 2 | Above and behind. |\n| `after` | Duration | 3 | One of way. |\n\n### E\n\n| value | number | |\n|---|---|---|\n| `E_NONE` | 0 | |\n"
	want = strings.Replace(want, "| 0 | |", "| 0 |  |", 1)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, broken := range []string{"extend Q {", "message Q {\n  group X = 1 {\n", "message Q {\n", "}"} {
		if _, err := parse("a.proto", broken); err == nil || !strings.HasPrefix(err.Error(), "a.proto:") {
			t.Errorf("%q is read: %v", broken, err)
		}
	}
}
