// Part of the patch safety/contain-panics.

package server

import "fmt"

// containedOp runs an operation of the API. What a peer sent before can make
// it panic, on the goroutine that serves all peers.
func (s *BgpServer) containedOp(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			tellSession(s.logger, panicEvent(r))
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return f()
}
