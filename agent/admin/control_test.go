package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"onlink/agent/config"
	"onlink/agent/drain"
	"onlink/agent/reload"
	"onlink/bgp"
	onlinkv1 "onlink/proto/v1"
)

// TestControlPeer: a configured peer is found by name or address; others, and
// requests that say nothing, are refused before anything is done.
func TestControlPeer(t *testing.T) {
	const (
		disable = onlinkv1.PeerAction_PEER_ACTION_DISABLE
		enable  = onlinkv1.PeerAction_PEER_ACTION_ENABLE
		reset   = onlinkv1.PeerAction_PEER_ACTION_RESET
	)
	peers := []bgp.PeerStatus{
		{Name: "tor", Address: ip("10.57.0.1")},
		{Name: "clients", Address: ip("10.57.0.9"), Dynamic: true},
		{Name: "clients", Address: ip("10.57.0.10"), Dynamic: true, Gone: true},
		{Name: "", Address: ip("10.57.0.66"), Stranger: true},
	}
	for _, c := range []struct {
		name, peer string
		action     onlinkv1.PeerAction
		reason     string
		fails      error
		code       codes.Code
		did        []string
	}{
		{"by name", "tor", disable, "ticket 7", nil, codes.OK, []string{"hold 10.57.0.1 admin: ticket 7"}},
		{"by address, no reason", "10.57.0.1", disable, "", nil, codes.OK, []string{"hold 10.57.0.1 admin: disabled by the operator"}},
		{"enable", "tor", enable, "", nil, codes.OK, []string{"release 10.57.0.1 admin"}},
		{"reset", "tor", reset, "stuck", nil, codes.OK, []string{"reset 10.57.0.1: stuck"}},
		{"unknown", "spine", reset, "", nil, codes.NotFound, nil},
		{"dynamic", "10.57.0.9", reset, "", nil, codes.FailedPrecondition, nil},
		{"a name of several", "clients", reset, "", nil, codes.InvalidArgument, nil},
		{"a stranger", "10.57.0.66", reset, "", nil, codes.NotFound, nil},
		{"refresh in", "tor", onlinkv1.PeerAction_PEER_ACTION_REFRESH_IN, "", nil, codes.OK, []string{"refresh in 10.57.0.1"}},
		{"refresh out", "tor", onlinkv1.PeerAction_PEER_ACTION_REFRESH_OUT, "", nil, codes.OK, []string{"refresh out 10.57.0.1"}},
		{"refresh of a session that is down", "tor", onlinkv1.PeerAction_PEER_ACTION_REFRESH_IN, "", bgp.ErrNoSession, codes.FailedPrecondition, []string{"refresh in 10.57.0.1"}},
		{"forget one that is there", "tor", onlinkv1.PeerAction_PEER_ACTION_FORGET, "", nil, codes.FailedPrecondition, nil},
		{"no action", "tor", onlinkv1.PeerAction_PEER_ACTION_UNSPECIFIED, "", nil, codes.InvalidArgument, nil},
		{"an action of a later version", "tor", onlinkv1.PeerAction(99), "", nil, codes.InvalidArgument, nil},
		{"a reason that no CEASE carries", "tor", disable, strings.Repeat("x", maxReason+1), nil, codes.InvalidArgument, nil},
		{"the engine refuses", "tor", reset, "", errors.New("busy"), codes.Internal, []string{"reset 10.57.0.1: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bed{peers: peers, err: c.fails}
			rep, err := b.server(t).ControlPeer(t.Context(), &onlinkv1.ControlPeerRequest{Peer: c.peer, Action: c.action, Reason: c.reason})
			wantCode(t, err, c.code)
			if diff := cmp.Diff(c.did, b.did); diff != "" {
				t.Error(diff)
			}
			if err == nil && rep.GetPeer().GetName() != "tor" {
				t.Errorf("answers with %v", rep.GetPeer())
			}
		})
	}
}

// originate is the originate flow: it announces each phase.
func originate(ctx context.Context, d *drain.Drain) {
	for {
		var over <-chan time.Time
		if _, rest := d.Now(); rest > 0 {
			over = time.After(rest)
		}
		select {
		case <-ctx.Done():
			return
		case <-d.Changed():
		case <-over:
		}
		p, _ := d.Now()
		n := 3
		if p == drain.Drained {
			n = 0
		}
		d.Announced(p, n)
	}
}

// TestDrain: Drain and Undrain answer when the peers were sent what they ask
// for, or say that another request came between.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		s := (&bed{}).server(t)
		go originate(ctx, s.Drainer)
		wait := func(d time.Duration) *onlinkv1.DrainRequest {
			return &onlinkv1.DrainRequest{Wait: durationpb.New(d)}
		}
		for _, d := range []time.Duration{-time.Second, maxDrainWait + 1} {
			_, err := s.Drain(ctx, wait(d))
			wantCode(t, err, codes.InvalidArgument)
		}
		began := time.Now()
		rep, err := s.Drain(ctx, wait(30*time.Second))
		if err != nil || rep.GetPhase() != "drained" || rep.GetPrefixes() != 0 || time.Since(began) != 30*time.Second {
			t.Errorf("%v, %v after %v", rep, err, time.Since(began))
		}
		if rep, err = s.Undrain(ctx, nil); err != nil || rep.GetPhase() != "serving" || rep.GetPrefixes() != 3 {
			t.Errorf("%v, %v", rep, err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := s.Drain(ctx, wait(time.Hour))
			ended <- err
		}()
		time.Sleep(time.Minute) // synctest's clock
		if _, err := s.Undrain(ctx, nil); err != nil {
			t.Error(err)
		}
		wantCode(t, <-ended, codes.Aborted)

		gone, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		_, err = s.Drain(gone, wait(time.Hour))
		wantCode(t, err, codes.DeadlineExceeded)
		stop()
	})
}

// TestPolicyTest: both directions reach the speaker, and its errors say whose
// fault they are.
func TestPolicyTest(t *testing.T) {
	const imports, exports = onlinkv1.PolicyDirection_POLICY_DIRECTION_IMPORT, onlinkv1.PolicyDirection_POLICY_DIRECTION_EXPORT
	route := &onlinkv1.PolicyRoute{Prefix: "10.244.1.0/26", NextHop: "10.57.0.12", Source: "own"}
	for _, c := range []struct {
		name      string
		direction onlinkv1.PolicyDirection
		route     *onlinkv1.PolicyRoute
		fails     error
		code      codes.Code
		did       []string
	}{
		{"import", imports, route, nil, codes.OK, []string{"import from tor"}},
		{"export", exports, route, nil, codes.OK, []string{"export to tor"}},
		{"no direction", onlinkv1.PolicyDirection_POLICY_DIRECTION_UNSPECIFIED, route, nil, codes.InvalidArgument, nil},
		{"a direction of a later version", onlinkv1.PolicyDirection(9), route, nil, codes.InvalidArgument, nil},
		{"no prefix", imports, nil, nil, codes.InvalidArgument, nil},
		{"no next hop", imports, &onlinkv1.PolicyRoute{Prefix: "10.244.1.5", NextHop: "tor"}, nil, codes.InvalidArgument, nil},
		{"an unknown source", imports, &onlinkv1.PolicyRoute{Prefix: "10.244.1.5", Source: "moon"}, nil, codes.InvalidArgument, nil},
		{"an unknown peer", imports, route, bgp.ErrUnknownPeer, codes.NotFound, []string{"import from tor"}},
		{"the engine is away", imports, route, errors.New("stopped"), codes.Unavailable, []string{"import from tor"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bed{err: c.fails}
			b.verdict.Accepted, b.verdict.Rule = true, "pools"
			rep, err := b.server(t).TestPolicy(t.Context(), &onlinkv1.TestPolicyRequest{Peer: "tor", Direction: c.direction, Route: c.route})
			wantCode(t, err, c.code)
			if diff := cmp.Diff(c.did, b.did); diff != "" {
				t.Error(diff)
			}
			if err == nil && (!rep.GetAccepted() || rep.GetRule() != "pools") {
				t.Errorf("%v", rep)
			}
		})
	}
}

// TestViolations: mistakes are in the error by field, bounded, also where their
// text is no UTF-8.
func TestViolations(t *testing.T) {
	mistakes := config.Errors{{File: "f", Line: 3, Field: "bgp.peers[2].address", Text: "is no address; write one"}}
	for range 2 * maxViolations {
		mistakes = append(mistakes, &config.Error{Field: "pools", Text: strings.Repeat("\xffé", maxViolation)})
	}
	_, err := (&bed{text: "{}", err: fmt.Errorf("take: %w", mistakes)}).server(t).ChangeConfig(t.Context(), &onlinkv1.ChangeConfigRequest{Text: "x"})
	wantCode(t, err, codes.InvalidArgument)
	details := status.Convert(err).Details()
	if len(details) != 1 {
		t.Fatalf("%d details of %v", len(details), err)
	}
	list := details[0].(*errdetails.BadRequest).GetFieldViolations()
	if len(list) != maxViolations || list[0].GetField() != "bgp.peers[2].address" || list[0].GetDescription() != "is no address; write one" {
		t.Errorf("%d violations, the first %v", len(list), list[0])
	}
	if n := len(list[1].GetDescription()); n > maxViolation+10 {
		t.Errorf("a description of %d bytes", n)
	}
	_, err = (&bed{text: "{}", err: reload.ErrKey}).server(t).ChangeConfig(t.Context(), &onlinkv1.ChangeConfigRequest{Text: "x"})
	wantCode(t, err, codes.InvalidArgument)
}

// TestConfig: the file is read, changed and taken in; each refusal has the code
// that says whose fault it is.
func TestConfig(t *testing.T) {
	b := &bed{text: "bgp: {}", noteErr: errors.New("the newest file is not in force")}
	s := b.server(t)
	got, err := s.GetConfig(t.Context(), nil)
	if err != nil || got.GetText() != "bgp: {}" || got.GetDigest() != "d-bgp: {}" || got.GetProblem() == "" {
		t.Errorf("%v, %v", got, err)
	}
	rep, err := s.ChangeConfig(t.Context(), &onlinkv1.ChangeConfigRequest{Text: "log: {}", DryRun: true})
	if err != nil || !rep.GetChanged() || b.text != "bgp: {}" {
		t.Errorf("dry run: %v, %v, %q", rep, err, b.text)
	}
	rep, err = s.ChangeConfig(t.Context(), &onlinkv1.ChangeConfigRequest{Text: "log: {}", DryRun: true, Forecast: 5000})
	f := rep.GetForecast()
	if err != nil || len(f.GetSessions()) != 1 || f.GetMistakes()[0] != "1000 items" || f.GetRemoves().GetCount() != 7 || f.GetRemoves().GetFirst()[0].GetPrefix() != "10.9.0.0/16" {
		t.Errorf("forecast %v, %v", f, err)
	} else if one := f.GetSessions()[0]; one.GetFate() != "reset" || one.GetWhy() != "password" || one.GetWithdraws().GetCount() != 2 || one.GetAdvertised() != 3 || !one.GetUp() {
		t.Errorf("session %v", one)
	}
	rep, err = s.ChangeConfig(t.Context(), &onlinkv1.ChangeConfigRequest{Text: "log: {}", Forecast: 5})
	if err != nil || rep.GetForecast() != nil {
		t.Errorf("a forecast of a change that is made: %v, %v", rep, err)
	}
	b.text = "bgp: {}"
	rep, err = s.ChangeConfig(t.Context(), &onlinkv1.ChangeConfigRequest{Text: "log: {}"})
	if err != nil || !rep.GetChanged() || b.text != "log: {}" || rep.GetDigest() != "d-log: {}" {
		t.Errorf("%v, %v, %q", rep, err, b.text)
	}
	if rep, err := s.ReloadConfig(t.Context(), nil); err != nil || rep.GetDigest() != "d-log: {}" {
		t.Errorf("%v, %v", rep, err)
	}
	for _, c := range []struct {
		name string
		req  *onlinkv1.ChangeConfigRequest
		err  error
		want codes.Code
	}{
		{"neither text nor edits", &onlinkv1.ChangeConfigRequest{}, nil, codes.InvalidArgument},
		{"both", &onlinkv1.ChangeConfigRequest{Text: "x", Edits: []*onlinkv1.ConfigEdit{{}}}, nil, codes.InvalidArgument},
		{"an empty edit", &onlinkv1.ChangeConfigRequest{Edits: []*onlinkv1.ConfigEdit{{}}}, nil, codes.InvalidArgument},
		{"an edit of what is not there", &onlinkv1.ChangeConfigRequest{Edits: []*onlinkv1.ConfigEdit{
			{Edit: &onlinkv1.ConfigEdit_RemovePeer{RemovePeer: "moon"}},
		}}, nil, codes.InvalidArgument},
		{"mistakes in the file", &onlinkv1.ChangeConfigRequest{Text: "x"}, config.Errors{{Text: "no such key"}}, codes.InvalidArgument},
		{"the file has changed", &onlinkv1.ChangeConfigRequest{Text: "x"}, reload.ErrStale, codes.Aborted},
		{"only a restart can", &onlinkv1.ChangeConfigRequest{Text: "x"}, reload.ErrRestart, codes.FailedPrecondition},
		{"no file", &onlinkv1.ChangeConfigRequest{Text: "x"}, reload.ErrNoFile, codes.FailedPrecondition},
		{"a part refuses", &onlinkv1.ChangeConfigRequest{Text: "x"}, errors.New(strings.Repeat("x", 2*maxAnswer)), codes.Internal},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := (&bed{text: "{}", err: c.err}).server(t).ChangeConfig(t.Context(), c.req)
			wantCode(t, err, c.want)
			if n := len(err.Error()); n > maxAnswer+1000 {
				t.Errorf("an answer of %d bytes does not reach a client", n)
			}
		})
	}
	_, err = (&bed{err: reload.ErrNoFile}).server(t).GetConfig(t.Context(), nil)
	wantCode(t, err, codes.FailedPrecondition)
	got, err = (&bed{text: "log: {level: \xff\xfe}"}).server(t).GetConfig(t.Context(), nil)
	if err != nil || got.GetText() != "log: {level: ?}" {
		t.Errorf("a file that is no UTF-8: %v, %q", err, got.GetText())
	}
	_, err = (&bed{text: strings.Repeat("#", 1+4<<20)}).server(t).GetConfig(t.Context(), nil)
	wantCode(t, err, codes.FailedPrecondition)
	_, err = (&bed{err: reload.ErrRestart}).server(t).ReloadConfig(t.Context(), nil)
	wantCode(t, err, codes.FailedPrecondition)
}
