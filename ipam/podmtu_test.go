package ipam

import (
	"slices"
	"testing"
)

// TestPodMTUs: the latest is the first, none is in it twice, and they survive
// the file's being closed.
func TestPodMTUs(t *testing.T) {
	path := dbPath(t)
	s := openFile(t, path, StoreOptions{})
	for i := range 20 {
		if err := s.NotePodMTU(1400 + i); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.NotePodMTU(1410); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := openStore(t, path).PodMTUs()
	want := []int{1410, 1419, 1418, 1417, 1416, 1415, 1414, 1413, 1412, 1411, 1409, 1408, 1407, 1406, 1405, 1404}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}
