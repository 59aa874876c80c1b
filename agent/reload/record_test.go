package reload

import (
	"errors"
	"testing"
)

// TestRecord: files that are taken in and rejected are counted, and a rejected one does
// not change since when the configuration is in force.
func TestRecord(t *testing.T) {
	t.Parallel()
	var log []string
	r, _ := kept(t, onePeer, &log)
	began := r.Record().At
	if _, err := r.Change(t.Context(), Edit{Make: func([]byte) ([]byte, error) { return []byte(twoPeers), nil }}); err != nil {
		t.Fatal(err)
	}
	taken := r.Record()
	r.note(errors.New("no"), nil)
	if want := (Record{Applied: 1, Rejected: 1, At: taken.At}); r.Record() != want || !taken.At.After(began) {
		t.Errorf("recorded %+v, want %+v, and in force later than %v", r.Record(), want, began)
	}
}
