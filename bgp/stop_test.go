package bgp

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestStopEnds: the engine stops while dynamic peers close their sessions.
func TestStopEnds(t *testing.T) {
	needsPatches(t)
	for round := range 8 {
		at := fmt.Sprintf("127.49.%d.1", round)
		n := startNodes(t, testConfig(t, at))[0]
		n.setPeers(nil, clientsOf(fmt.Sprintf("127.49.%d.0/24", round)))
		var clients []*rawClient
		for i := range 6 {
			clients = append(clients, connectClient(t, fmt.Sprintf("127.49.%d.%d", round, 2+i), at))
		}
		n.cancel()
		if err := <-n.ended; err != nil {
			t.Errorf("speaker ended: %v", err)
		}
		n.ended = nil // the clean-up stops no engine then
		ended := make(chan error, 1)
		var gone sync.WaitGroup
		for _, c := range clients {
			gone.Go(func() { _ = c.conn.Close() }) // the close under test
		}
		go func() { ended <- n.engine.Stop() }()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("stop engine: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("the engine did not stop")
		}
		gone.Wait()
	}
}
