package node

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
)

// TestSettling: deletions of two kinds take effect at one moment, none does while one of
// the kinds is gone, and the list of that without objects is no person's deletion.
func TestSettling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards seen and missing
		var seen []deletion
		// took returns what took effect since the last call.
		took := func() []deletion {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			gone := seen
			seen = nil
			return gone
		}
		s := &settling{ring: func() {}}
		kind := func(name string, serves *error) *store[*v1alpha1.BGPPeer] {
			st := newStore[*v1alpha1.BGPPeer](name, nil, func(d deletion) {
				mu.Lock()
				defer mu.Unlock()
				if len(d.names) > 0 {
					seen = append(seen, d)
				}
			})
			st.settle = s
			s.add(settled{kind: name, waits: st.waits, ends: st.ends, serves: func() error {
				mu.Lock()
				defer mu.Unlock()
				return *serves
			}, take: func() { st.expire() }})
			return st
		}
		object := func(name string) *v1alpha1.BGPPeer {
			return &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name}}
		}
		var fine, missing error
		answer := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			missing = err
		}
		a, b := kind("BGPPeer", &fine), kind("IPPool", &missing)
		for _, st := range []*store[*v1alpha1.BGPPeer]{a, b} {
			if err := st.Replace([]any{object("x"), object("y")}, ""); err != nil {
				t.Fatal(err)
			}
		}
		remove := func(st *store[*v1alpha1.BGPPeer], name string) {
			t.Helper()
			if err := st.Delete(object(name)); err != nil {
				t.Fatal(err)
			}
		}
		remove(a, "x")
		time.Sleep(quiet - time.Millisecond)
		remove(b, "x")
		time.Sleep(quiet - time.Millisecond)
		gone := took()
		if len(gone) != 0 {
			t.Fatalf("deletions take effect while others go on: %+v", gone)
		}
		time.Sleep(time.Millisecond)
		gone = took()
		if len(gone) != 2 || !gone[0].at.Equal(gone[1].at) || gone[0].emptied || !gone[0].seen {
			t.Fatalf("deletions of two kinds: %+v", gone)
		}

		answer(apierrors.NewNotFound(v1alpha1.GroupVersion.WithResource("ippools").GroupResource(), ""))
		remove(a, "y")
		remove(b, "y")
		time.Sleep(10 * quiet)
		gone = took()
		if len(gone) != 0 || len(a.list()) != 1 || len(b.list()) != 1 {
			t.Fatalf("while one kind is missing, %+v, left %v and %v", gone, a.list(), b.list())
		}
		answer(nil)
		time.Sleep(3 * relook)
		if gone = took(); len(gone) != 0 {
			t.Fatalf("of a kind that is back and not listed: %+v", gone)
		}
		if err := b.Replace(nil, ""); err != nil {
			t.Fatal(err)
		}
		if gone = took(); len(gone) != 1 || gone[0].seen || !gone[0].emptied {
			t.Fatalf("an empty list: %+v", gone)
		}
		time.Sleep(3 * relook)
		gone = took()
		if len(gone) != 1 || gone[0].kind != "BGPPeer" || !gone[0].seen || !gone[0].emptied {
			t.Fatalf("with the kind back: %+v", gone)
		}

		if err := a.Replace([]any{object("x")}, ""); err != nil {
			t.Fatal(err)
		}
		remove(a, "x")
		time.Sleep(emptyQuiet - time.Millisecond)
		gone = took()
		if len(gone) != 0 {
			t.Fatalf("the last object of a kind: %+v", gone)
		}
		time.Sleep(time.Millisecond)
		gone = took()
		if len(gone) != 1 {
			t.Fatalf("the last object of a kind, later: %+v", gone)
		}

		answer(apierrors.NewServiceUnavailable("not now"))
		if err := b.Replace([]any{object("x"), object("y")}, ""); err != nil {
			t.Fatal(err)
		}
		remove(b, "x")
		time.Sleep(3 * quiet)
		answer(nil)
		time.Sleep(3 * relook)
		gone = took()
		if len(gone) != 1 || !gone[0].seen {
			t.Fatalf("of a kind that is served again after a fault of the moment: %+v", gone)
		}

		if err := a.Replace([]any{object("x")}, ""); err != nil {
			t.Fatal(err)
		}
		remove(a, "x")
		for range 12 {
			if err := b.Add(object("z")); err != nil {
				t.Fatal(err)
			}
			remove(b, "z")
			time.Sleep(emptyQuiet / 4)
		}
		if len(a.list()) != 0 {
			t.Fatal("deletions of one kind put off the last of another without a bound")
		}
	})
}
