package guest

import (
	"errors"
	"testing"
)

func TestMainRefusesARealMachine(t *testing.T) {
	if err := Main(); !errors.Is(err, ErrNotGuest) {
		t.Errorf("Main outside a guest: %v, want %v", err, ErrNotGuest)
	}
}
