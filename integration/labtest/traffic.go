package labtest

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"onlink/integration/lab"
)

// Sink accepts connections in a namespace, reads size bytes of each and answers
// with one.
func Sink(t *testing.T, ns *lab.NS, address string, size int64) {
	t.Helper()
	var lis net.Listener
	Must(t, ns.Do(func() (err error) { lis, err = net.Listen("tcp", address); return err }))
	t.Cleanup(func() { _ = lis.Close() })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				if _, err := io.CopyN(io.Discard, c, size); err == nil {
					_, _ = c.Write([]byte{1})
				}
				_ = c.Close()
			}()
		}
	}()
}

// Send sends size bytes to a sink and waits for its answer.
func Send(ns *lab.NS, address string, size int64) (time.Duration, error) {
	var c net.Conn
	err := ns.Do(func() (err error) { c, err = net.DialTimeout("tcp", address, 20*time.Second); return err })
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	begin := time.Now()
	if err := c.SetDeadline(begin.Add(time.Minute)); err != nil {
		return 0, err
	}
	if _, err := c.Write(make([]byte, size)); err != nil {
		return 0, err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return time.Since(begin), err
}

// EveryFlowPasses waits until all of many flows get through: each socket is
// another flow.
func EveryFlowPasses(ctx context.Context, t *testing.T, l *lab.Lab, v6 bool) {
	t.Helper()
	a, b := PodOf(l, "r1n1"), PodOf(l, "r2n1")
	over, cancel := context.WithCancel(ctx)
	cancel() // the flows only probe: their last replies do not matter
	Must(t, lab.Eventually(ctx, Patience, "every flow takes the other ToR", func() error {
		for range 16 {
			flow, err := lab.StartPingFlow(a.NS, b.NS, AddrOf(b, v6), 1000)
			if err != nil {
				return err
			}
			first := flow.WaitForWithin(ctx, 1, 3*time.Second)
			if _, err := flow.Stop(over); err != nil || first != nil {
				return errors.Join(err, first)
			}
		}
		return nil
	}))
}

// Lossless ends a flow and requires that it lost no packet.
func Lossless(ctx context.Context, t *testing.T, flow *lab.PingFlow) {
	t.Helper()
	report, err := flow.Stop(ctx)
	if err != nil || report.Lost > 0 {
		t.Errorf("flow: %s, %v; want nothing lost", report, err)
	}
	t.Logf("flow: %s", report)
}
