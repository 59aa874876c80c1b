package bfd

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// request has the sessions that the helper must run.
type request struct {
	Seq      uint64 // of the report that answers; never 0
	Sessions []Session
}

// report is a message of the helper: the answer to a request (Seq is not 0), or a
// change.
type report struct {
	Seq      uint64
	Err      string
	PortBusy bool // Err is an ErrPortBusy
	Sessions []Status
}

// refresh bounds the age of the counters of an unchanged session.
const refresh = 500 * time.Millisecond

// Serve is the helper of a [Process]: it runs the sessions of the requests from in
// and reports to out. It returns when in ends, as it does when the agent dies, and
// sends AdminDown to the neighbours before.
func Serve(in io.Reader, out io.Writer, log *slog.Logger) error {
	m, err := New(log)
	if err != nil {
		return err
	}
	if err := hurry(); err != nil {
		log.Info("bfd runs with ordinary priority", "err", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h := &helper{m: m, out: gob.NewEncoder(out)}
	var wg sync.WaitGroup
	var ran error
	wg.Go(func() { defer cancel(); ran = m.Run(ctx) })
	wg.Go(func() { h.reportChanges(ctx) })
	asked := h.answer(gob.NewDecoder(in))
	cancel()
	wg.Wait()
	return errors.Join(asked, ran)
}

// helper is one run of [Serve].
type helper struct {
	m *Monitor

	mu  sync.Mutex // one report at a time
	out *gob.Encoder
}

// answer receives requests until the input ends.
func (h *helper) answer(in *gob.Decoder) error {
	for {
		var r request
		if err := in.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		rep := report{Seq: r.Seq}
		if err := h.m.Set(r.Sessions); err != nil {
			rep.Err, rep.PortBusy = err.Error(), errors.Is(err, ErrPortBusy)
		}
		h.send(rep)
	}
}

// reportChanges reports changed states at once, and counters from time to time.
func (h *helper) reportChanges(ctx context.Context) {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.m.Changed():
		case <-tick.C:
		}
		h.send(report{})
	}
}

// send writes a report. A failure is ignored: when the agent is gone the input
// ends as well.
func (h *helper) send(r report) {
	r.Sessions = h.m.Sessions()
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.out.Encode(r)
}
