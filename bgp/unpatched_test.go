package bgp

import (
	"errors"
	"testing"
)

// TestUnpatchedRefuses: an unpatched engine opens no session without
// AllowUnpatched, and a patched one opens them in any case.
func TestUnpatchedRefuses(t *testing.T) {
	for _, allow := range []bool{false, true} {
		c := testConfig(t, "127.93.0.1")
		c.AllowUnpatched = allow
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		if want := !Patched() && !allow; s.refuses != want {
			t.Errorf("allowed %t: refuses %t, want %t", allow, s.refuses, want)
		}
	}
	s, err := New(testConfig(t, "127.93.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	s.refuses = true // as in a build without the patches
	if err := s.SetPeers(t.Context(), []Peer{to("127.93.0.2", IBGP)}, nil); !errors.Is(err, ErrUnpatched) {
		t.Errorf("a peer: %v, want %v", err, ErrUnpatched)
	}
	if err := s.SetPeers(t.Context(), nil, []Dynamic{clientsOf("127.93.0.0/24")}); !errors.Is(err, ErrUnpatched) {
		t.Errorf("a range of clients: %v, want %v", err, ErrUnpatched)
	}
	if err := s.SetPeers(t.Context(), nil, nil); err != nil {
		t.Errorf("no peers: %v", err)
	}
}
