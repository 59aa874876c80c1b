package glass

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"onlink/agent/explain"
	"onlink/agent/state"
	"onlink/bgp"
)

// TestStreams: of a thousand pages as many as the bound are served, the others are
// refused with the reason, and one that is closed makes room.
func TestStreams(t *testing.T) {
	t.Parallel()
	s := (&bed{}).serve(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var open []context.CancelFunc
	for range streamBounds.Each {
		one, end := context.WithCancel(ctx)
		open = append(open, end)
		events := s.follow(one, "")
		var v statusView
		next(t, events, "status", &v)
	}
	var wg sync.WaitGroup
	codes := make(chan int, 1000)
	for range 20 {
		wg.Go(func() {
			for range 50 {
				code, _ := s.get("/api/live")
				codes <- code
			}
		})
	}
	wg.Wait()
	close(codes)
	refused := 0
	for code := range codes {
		if code == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused != 1000 {
		t.Errorf("%d of 1000 pages beyond the bound were refused", refused)
	}
	s.refused("/api/live", http.StatusTooManyRequests, "8 pages are open, 8 of them of 127.0.0.1, which is the limit")
	open[0]()
	within(t, "a closed page makes room", func() bool {
		rep := s.do(http.MethodGet, "/api/live")
		defer rep.Body.Close()
		return rep.StatusCode == http.StatusOK
	})
}

// within polls until a condition holds.
func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for late := time.Now().Add(20 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// TestSlowReader: a page that takes nothing of its stream is dropped, and its place is
// another's.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	b := &bed{}
	big := func(n int) *state.Snapshot {
		snap := &state.Snapshot{Node: state.Node{Name: "r1n1", Address: ip("10.57.1.11")}}
		for i := range maxSessions {
			snap.Sessions.Peers = append(snap.Sessions.Peers, peer(bgp.PeerStatus{
				Name: fmt.Sprintf("tor%d", i), Address: ip(fmt.Sprintf("10.57.0.%d", i)), LastError: strings.Repeat(strconv.Itoa(n)+" ", maxText)[:maxText],
			}))
		}
		return snap
	}
	b.put(big(0))
	s := b.serve(t)
	var slow []net.Conn
	for range streamBounds.Each {
		c, err := net.Dial("tcp", s.at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /api/live HTTP/1.1\r\nHost: %s\r\n\r\n", s.at)
		if line, err := bufio.NewReaderSize(c, 16).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("%q, %v", line, err)
		}
		slow = append(slow, c)
	}
	s.refused("/api/live", http.StatusTooManyRequests, "which is the limit")
	late := time.Now().Add(4*patience + 60*time.Second)
	for n := 1; ; n++ {
		b.put(big(n)) // every event differs, so that buffers fill
		rep := s.do(http.MethodGet, "/api/live")
		rep.Body.Close()
		if rep.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%d readers that take nothing hold their places", len(slow))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestExplainBounds: one explanation at once of a reader, a few in a short time, and
// none for a page of another site.
func TestExplainBounds(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	var wait atomic.Bool
	wait.Store(true)
	b := &bed{explain: func(ctx context.Context, q explain.Question) (explain.Result, error) {
		if wait.Load() {
			begun <- struct{}{}
			<-end
		}
		return explain.Result{Question: q, Reachable: true, Verdict: "directly"}, ctx.Err()
	}}
	s := b.serve(t)
	const path = "/api/explain?to=10.244.1.7"
	s.refused(path, http.StatusForbidden, "Onlink-Glass: 1")
	first := make(chan int)
	go func() {
		code, _ := s.get(path, askHeader, "1")
		first <- code
	}()
	<-begun
	s.refused(path, http.StatusTooManyRequests, "1 explanations are open, 1 of them of 127.0.0.1", askHeader, "1")
	wait.Store(false)
	close(end)
	if code := <-first; code != http.StatusOK {
		t.Errorf("the first explanation: %d", code)
	}
	good := 0
	for range 2 * explainBurst {
		if code, _ := s.get(path, askHeader, "1"); code == http.StatusOK {
			good++
		}
	}
	if good < explainBurst-2 || good > explainBurst {
		t.Errorf("%d explanations in a short time, want about %d", good, explainBurst-1)
	}
	s.refused(path, http.StatusTooManyRequests, "too many explanations in a short time", askHeader, "1")
}

// TestRequestBounds: a reader in a loop is refused, and the stream is not.
func TestRequestBounds(t *testing.T) {
	s := (&bed{}).serve(t)
	const each, readers = 50, 10
	var good, refused atomic.Int64
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for range each {
				switch code, _ := s.get("/api/session?address=192.0.2.1"); code {
				case http.StatusNotFound: // there is no such peer
					good.Add(1)
				case http.StatusTooManyRequests:
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if good.Load() < requestBurst || refused.Load() == 0 || good.Load()+refused.Load() != each*readers {
		t.Errorf("of %d requests in loops %d were answered and %d refused", each*readers, good.Load(), refused.Load())
	}
	var v statusView
	next(t, s.follow(t.Context(), ""), "status", &v)
}
