// Part of the patch safety/contain-panics.

package server

import (
	"fmt"
	"runtime/debug"

	"github.com/osrg/gobgp/v3/pkg/log"
)

// containedOp runs an operation of the API. What a peer sent before can make
// it panic, on the goroutine that serves all peers.
func (s *BgpServer) containedOp(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.logger.Error("contained a panic",
				log.Fields{
					"Topic": "Server",
					"Error": fmt.Sprint(r),
					"Stack": string(debug.Stack())})
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return f()
}
