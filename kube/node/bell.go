package node

// bell wakes one goroutine. It has room for one signal: full means that the
// goroutine has one that it has not received yet. It is never closed.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

// ring wakes the goroutine, now or when it next waits.
func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}
