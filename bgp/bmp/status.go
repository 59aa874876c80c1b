package bmp

import (
	"fmt"
	"time"
)

// Status is the state of one station.
type Status struct {
	Settings

	Connected bool
	Since     time.Time // when the connection was made, or lost, or the station added
	LastError string    // why there was no connection last; "" when there was always one
	ErrorAt   time.Time
	// Messages and Bytes were sent, Connections made, since the station was added.
	Messages, Bytes, Connections uint64
	Overflows                    uint64 // connections closed because the collector reads too slowly
	Waiting                      int    // changes that were not sent yet
}

// unreachableProblem is how long a station is without a connection before that is a
// problem: a collector that is restarted is none.
const unreachableProblem = 5 * time.Minute

// Problem returns the problem of the station for the operator at the moment now; "" when
// all is well. No route depends on it.
func (s *Status) Problem(now time.Time) string {
	if s.Connected || now.Sub(s.Since) < unreachableProblem {
		return ""
	}
	why := s.LastError
	if why == "" {
		why = "the first attempt has not ended"
	}
	return fmt.Sprintf("bmp station %s (%s) has had no connection for %s: %s; check the collector, and what is between; routes do not depend on it",
		s.Name, s.endpoint(), now.Sub(s.Since).Truncate(time.Minute), why)
}
