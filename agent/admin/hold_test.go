package admin

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"

	"onlink/agent/hold"
	"onlink/agent/reload"
	"onlink/agent/state"
	onlinkv1 "onlink/proto/v1"
)

// TestConfirm: a held change is in the status until it is confirmed; what cannot be
// confirmed has a code that says why.
func TestConfirm(t *testing.T) {
	s := (&bed{}).server(t)
	confirm := func(digest string) (*onlinkv1.ConfirmReply, error) {
		return s.Confirm(t.Context(), &onlinkv1.ConfirmRequest{Digest: digest})
	}
	_, err := confirm("")
	wantCode(t, err, codes.NotFound)
	made := 0
	change := s.Held.Hold(hold.Change{What: "config", Reason: "2 of 2 peers"}, []byte("{}"), func(context.Context) error { made++; return nil })
	s.Held.Hold(hold.Change{What: "announce services", Reason: "9 of 9 announcements"}, nil, func(context.Context) error { return reload.ErrStale })
	w := statusToWire(&state.Snapshot{Held: s.Held.List()})
	if len(w.GetHeld()) != 2 || w.GetHeld()[1].GetDigest() != change.Digest || w.GetHeld()[1].GetReason() != "2 of 2 peers" || len(w.GetProblems()) != 2 {
		t.Errorf("status: %v, problems %v", w.GetHeld(), w.GetProblems())
	}
	_, err = confirm("")
	wantCode(t, err, codes.FailedPrecondition)
	_, err = confirm("0000000000000000")
	wantCode(t, err, codes.NotFound)
	if rep, err := confirm(change.Digest); err != nil || made != 1 || rep.GetChange().GetWhat() != "config" {
		t.Errorf("%v, %v, made %d times", rep, err, made)
	}
	_, err = confirm("")
	wantCode(t, err, codes.Aborted) // the change's own error
	if list := s.Held.List(); len(list) != 1 {
		t.Errorf("a change that failed is not held any more: %v", list)
	}
}
