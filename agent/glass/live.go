package glass

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"onlink/agent/state"
)

// live is the stream of events of one page: the header, the table of sessions, the
// network and the changes of sessions, each when it differs from what was sent before.
func (g *glass) live(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s := &stream{
		glass: g, to: http.NewResponseController(w), w: w, sent: map[string][]byte{},
		filter: strings.ToLower(q.Get("filter")), rack: q.Get("rack"),
	}
	if len(s.filter) > maxFilter {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("filter: use at most %d bytes", maxFilter))
		return
	}
	end, ok := begin(w, r, g.streams, "pages")
	if !ok {
		return
	}
	defer end()
	// The deadline for the reading of a request would end the stream.
	if err := s.to.SetReadDeadline(time.Time{}); err != nil {
		refuse(w, http.StatusInternalServerError, "this connection cannot carry a stream")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	ctx := r.Context()
	err := state.Follow(ctx, g.Board, func(snap *state.Snapshot) error { return s.show(ctx, snap) })
	if err != nil && !errors.Is(err, context.Canceled) {
		g.Log.Debug("a page ended", "reader", reader(r), "err", err)
	}
}

// stream is one page that is open.
type stream struct {
	*glass

	to     *http.ResponseController
	w      http.ResponseWriter
	filter string // of the sessions, lower case
	rack   string // whose nodes are drawn
	last   *state.Snapshot
	sent   map[string][]byte // by event
	at     time.Time         // of the last message
}

// show sends the events of a snapshot.
func (s *stream) show(ctx context.Context, snap *state.Snapshot) error {
	changes := changesOf(s.last, snap)
	s.last = snap
	uses, err := s.land.uses(ctx, time.Now())
	if err != nil {
		return err
	}
	if err := errors.Join(
		s.send("status", statusOf(snap)), s.send("sessions", sessionsOf(snap, s.filter)), s.send("topology", s.topology(snap, uses, s.rack)),
	); err != nil {
		return err
	}
	if len(changes.Changes) > 0 {
		if err := s.write("changes", changes); err != nil {
			return err
		}
	}
	if time.Since(s.at) > silence {
		return s.put([]byte(":\n\n"))
	}
	return nil
}

// send sends an event that differs from the last of its name.
func (s *stream) send(event string, v any) error {
	text, err := json.Marshal(v)
	if err != nil || bytes.Equal(text, s.sent[event]) {
		return err
	}
	s.sent[event] = text
	return s.write(event, json.RawMessage(text))
}

// write sends an event.
func (s *stream) write(event string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.put(fmt.Appendf(nil, "event: %s\ndata: %s\n\n", event, text))
}

// put sends a message. A reader that does not take it in time is dropped: else it would
// hold a snapshot and a place among the pages for as long as it likes.
func (s *stream) put(message []byte) error {
	s.at = time.Now()
	if err := s.to.SetWriteDeadline(s.at.Add(patience)); err != nil {
		return err
	}
	if _, err := s.w.Write(message); err != nil {
		return err
	}
	return s.to.Flush()
}
