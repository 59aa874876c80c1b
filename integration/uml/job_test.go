package uml

import (
	"errors"
	"testing"
)

func TestParseControl(t *testing.T) {
	tests := []struct {
		name string
		text string
		want verdict
	}{
		{"nothing", "", verdict{}},
		{"exit", FormatExit(3), verdict{exited: true, code: 3}},
		{"exit zero", FormatExit(0), verdict{exited: true}},
		{"fault", FormatFault(errors.New("mount \"x\":\nno device")), verdict{fault: "mount \"x\":\nno device"}},
		{"noise before", "hello\r\n" + FormatExit(7), verdict{exited: true, code: 7}},
		{"cut short", "exi", verdict{}},
		{"no number", "exit \n", verdict{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseControl(tt.text); got != tt.want {
				t.Errorf("parseControl(%q) = %+v, want %+v", tt.text, got, tt.want)
			}
		})
	}
}

func TestTail(t *testing.T) {
	tl := tail{limit: 5}
	for _, part := range []string{"abc", "def", "", "gh"} {
		if n, err := tl.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", part, n, err)
		}
	}
	if got := tl.String(); got != "defgh" {
		t.Errorf("tail = %q, want %q", got, "defgh")
	}
}

func TestProbe(t *testing.T) {
	if err := Probe("vxlan"); err != nil {
		t.Errorf("every kernel this is tested on has vxlan: %v", err)
	}
	if err := Probe("teleport"); err == nil {
		t.Error("an unknown feature was found")
	}
}
