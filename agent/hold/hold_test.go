package hold

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// made counts how often a change was applied.
func made(n *int) func(context.Context) error {
	return func(context.Context) error { *n++; return nil }
}

// TestHold: the same content is the same change and one alarm, another content
// another change; of each name one is held.
func TestHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := New(slog.New(slog.NewTextHandler(&log, nil)))
		var n int
		first := c.Hold(Change{What: "config", Reason: "2 of 2 peers"}, []byte("a"), made(&n))
		time.Sleep(time.Minute)
		again := c.Hold(Change{What: "config", Reason: "2 of 2 peers"}, []byte("a"), made(&n))
		if again != first {
			t.Errorf("the same change is held as %v, then as %v", first, again)
		}
		if got := strings.Count(log.String(), "change held"); got != 1 {
			t.Errorf("%d alarms, want 1:\n%s", got, &log)
		}
		elsewhere := c.Hold(Change{What: "announce services", Reason: "2 of 2 peers"}, []byte("a"), made(&n))
		if elsewhere.Digest == first.Digest {
			t.Error("changes of two names have one digest: it does not name the change")
		}
		other := c.Hold(Change{What: "config", Reason: "every session"}, []byte("b"), made(&n))
		if other.Digest == first.Digest || !other.Since.After(first.Since) {
			t.Errorf("another content is held as %v, as is %v", other, first)
		}
		list := c.List()
		if len(list) != 2 || list[0] != elsewhere || list[1] != other {
			t.Errorf("held: %v", list)
		}
		if n != 0 {
			t.Errorf("%d held changes were applied", n)
		}
		if got := c.Count(); got != 3 {
			t.Errorf("%d changes were held, want 3: one came again", got)
		}
		if p := other.Problem(); !strings.Contains(p, other.Digest) || !strings.Contains(p, "every session") {
			t.Errorf("the problem has no digest or reason: %s", p)
		}
		other.InFile = true
		if p := other.Problem(); !strings.Contains(p, "correct the file, which a restart of onlinkd takes as it is, or ") {
			t.Errorf("the problem leaves out what a restart does: %s", p)
		}
	})
}

// TestConfirm: a confirmed change is applied once; what was replaced or dropped
// cannot be confirmed; one that fails stays.
func TestConfirm(t *testing.T) {
	t.Parallel()
	c := New(slog.New(slog.DiscardHandler))
	if _, err := c.Confirm(t.Context(), ""); !errors.Is(err, ErrUnknown) {
		t.Errorf("with nothing held: %v", err)
	}
	var a, b, s int
	replaced := c.Hold(Change{What: "config", Reason: "x"}, []byte("a"), made(&a))
	present := c.Hold(Change{What: "config", Reason: "x"}, []byte("b"), made(&b))
	services := c.Hold(Change{What: "announce services", Reason: "x"}, nil, made(&s))
	if _, err := c.Confirm(t.Context(), replaced.Digest); !errors.Is(err, ErrUnknown) {
		t.Errorf("a replaced change: %v", err)
	}
	if _, err := c.Confirm(t.Context(), ""); !errors.Is(err, ErrSeveral) {
		t.Errorf("one of two without a digest: %v", err)
	}
	if got, err := c.Confirm(t.Context(), present.Digest); err != nil || got != present {
		t.Errorf("confirmed: %v, %v", got, err)
	}
	if _, err := c.Confirm(t.Context(), present.Digest); !errors.Is(err, ErrUnknown) {
		t.Errorf("confirmed twice: %v", err)
	}
	if got, err := c.Confirm(t.Context(), ""); err != nil || got != services {
		t.Errorf("the only one without a digest: %v, %v", got, err)
	}
	if a != 0 || b != 1 || s != 1 {
		t.Errorf("applied %d, %d and %d times, want 0, 1, 1", a, b, s)
	}

	errFull := errors.New("disk full")
	c.Hold(Change{What: "config", Reason: "x"}, nil, func(context.Context) error { return errFull })
	if _, err := c.Confirm(t.Context(), ""); !errors.Is(err, errFull) || len(c.List()) != 1 {
		t.Errorf("a change that fails: %v, held %v", err, c.List())
	}
	c.Drop("config")
	c.Drop("config")
	if _, err := c.Confirm(t.Context(), ""); !errors.Is(err, ErrUnknown) {
		t.Errorf("a dropped change: %v", err)
	}
}

// TestConfirmMayDrop: a change that is applied may drop itself, or be replaced
// meanwhile by another that stays held.
func TestConfirmMayDrop(t *testing.T) {
	t.Parallel()
	c := New(slog.New(slog.DiscardHandler))
	c.Hold(Change{What: "config", Reason: "x"}, []byte("a"), func(context.Context) error { c.Drop("config"); return nil })
	if _, err := c.Confirm(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	c.Hold(Change{What: "config", Reason: "x"}, []byte("a"), func(context.Context) error {
		c.Hold(Change{What: "config", Reason: "x"}, []byte("b"), func(context.Context) error { return nil })
		return nil
	})
	if _, err := c.Confirm(t.Context(), ""); err != nil || len(c.List()) != 1 {
		t.Errorf("%v, held %v", err, c.List())
	}
}
