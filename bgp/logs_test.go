package bgp

import "testing"

// TestNotificationInAHardReset: the text of a hard reset is that of the
// NOTIFICATION inside, however much of it has arrived.
func TestNotificationInAHardReset(t *testing.T) {
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"a shutdown with its reason", []byte("\x06\x02\x05drain"), "6/2 cease, administrative shutdown: drain"},
		{"a reason shorter than it says", []byte("\x06\x02\xffdrain"), "6/2 cease, administrative shutdown: drain"},
		{"no reason", []byte{6, 3}, "6/3 cease, peer de-configured"},
		{"nothing inside", nil, "6/9 cease, hard reset"},
		{"half a NOTIFICATION", []byte{6}, "6/9 cease, hard reset"},
		{"data of another fault are no text", []byte("\x03\x01\x05drain"), "3/1 UPDATE message error, malformed attribute list"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := notificationOf(6, 9, tt.data).words()
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
