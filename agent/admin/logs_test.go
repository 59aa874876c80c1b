package admin

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"onlink/agent/logs"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// TestSetLogLevel: a level is set for the parts and the time of the request, with one
// line of the log and one entry of the audit; a wrong request changes nothing.
func TestSetLogLevel(t *testing.T) {
	for _, c := range []struct {
		name   string
		level  string
		parts  []string
		lasts  time.Duration
		code   codes.Code
		want   string // the levels of agent, bgp and fib
		target string // of the audit
	}{
		{"all parts", "debug", nil, 0, codes.OK, "debug debug debug", "all=debug"},
		{"one part for a time", "error", []string{"bgp"}, time.Minute, codes.OK, "info error info", "bgp=error"},
		{"two parts", "warn", []string{"bgp", "fib"}, 0, codes.OK, "info warn warn", "bgp,fib=warn"},
		{"the configuration's", "config", []string{"bgp"}, 0, codes.OK, "info info info", "bgp=config"},
		{"no level", "", nil, 0, codes.InvalidArgument, "info info info", ""},
		{"an unknown level", "trace", nil, 0, codes.InvalidArgument, "info info info", ""},
		{"an unknown part", "debug", []string{"bgp", "bpg"}, 0, codes.InvalidArgument, "info info info", "bgp,bpg=debug"},
		{"a negative time", "debug", nil, -time.Second, codes.InvalidArgument, "info info info", ""},
		{"a week", "debug", nil, 7 * 24 * time.Hour, codes.InvalidArgument, "info info info", ""},
		{"the configuration's for a time", "config", nil, time.Minute, codes.InvalidArgument, "info info info", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			b := &bed{logs: logs.New(&out, slog.LevelInfo, false)}
			for _, part := range []string{"bgp", "fib"} {
				b.logs.Logger().With("part", part)
			}
			s := process{s: b.server(t)}
			req := &onlinkv1.SetLogLevelRequest{Level: c.level, Parts: c.parts}
			if c.lasts != 0 {
				req.Lasts = durationpb.New(c.lasts)
			}
			rep, err := s.SetLogLevel(t.Context(), req)
			wantCode(t, err, c.code)
			now, err := s.GetLogLevels(t.Context(), &onlinkv1.GetLogLevelsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, p := range now.GetParts() {
				got = append(got, p.GetLevel())
				if c.code == codes.OK && rep.GetParts()[i].GetLevel() != p.GetLevel() {
					t.Errorf("the answer has %v, and the log %v", rep.GetParts()[i], p)
				}
				if set := p.GetLevel() != "info"; set != (p.GetBy() != "") || p.GetUntil().IsValid() != (set && c.lasts > 0) {
					t.Errorf("part %v", p)
				}
			}
			if strings.Join(got, " ") != c.want || now.GetConfigured() != "info" {
				t.Errorf("levels %v, configured %s, want %s", got, now.GetConfigured(), c.want)
			}
			if lines := strings.Count(out.String(), "by=unknown"); lines != map[bool]int{true: 1}[c.code == codes.OK] {
				t.Errorf("%d lines with the author in %q", lines, out.String())
			}
			switch {
			case c.target == "" && len(b.audit) > 0:
				t.Errorf("the audit has %+v", b.audit)
			case c.target != "" && (len(b.audit) != 1 || b.audit[0].Action != ipam.AuditLogLevel || b.audit[0].Target != c.target || (b.audit[0].Failed == "") != (c.code == codes.OK)):
				t.Errorf("the audit has %+v, want %s", b.audit, c.target)
			}
		})
	}
	unnoted := &bed{noteErr: errors.New("disk full")}
	_, err := process{s: unnoted.server(t)}.SetLogLevel(t.Context(), &onlinkv1.SetLogLevelRequest{Level: "debug"})
	wantCode(t, err, codes.Internal)
	if _, parts := unnoted.logs.Levels(); len(parts) > 0 && parts[0].Set != nil {
		t.Error("a level was set that the audit does not have")
	}
}
