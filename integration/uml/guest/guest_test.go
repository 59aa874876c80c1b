package guest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMainRefusesARealMachine(t *testing.T) {
	if err := Main(); !errors.Is(err, ErrNotGuest) {
		t.Errorf("Main outside a guest: %v, want %v", err, ErrNotGuest)
	}
}

func TestMergeEnv(t *testing.T) {
	base := []string{"PATH=/bin", "HOME=/root"}
	tests := []struct {
		name     string
		override []string
		want     []string
	}{
		{"none", nil, []string{"PATH=/bin", "HOME=/root"}},
		{"new", []string{"A=1"}, []string{"PATH=/bin", "HOME=/root", "A=1"}},
		{"instead", []string{"PATH=/x"}, []string{"HOME=/root", "PATH=/x"}},
		{"same beginning", []string{"PA=1"}, []string{"PATH=/bin", "HOME=/root", "PA=1"}},
		{"twice: the last", []string{"A=1", "A=2"}, []string{"PATH=/bin", "HOME=/root", "A=2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, mergeEnv(base, tt.override)); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}
