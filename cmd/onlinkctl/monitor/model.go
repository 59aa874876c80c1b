package monitor

import (
	"slices"
	"strings"
)

// Model is what the operator sees: the latest answers, and where the cursor is. One
// goroutine uses it.
type Model struct {
	board  board
	panes  []pane
	views  []view // one for each pane
	focus  int    // the pane with the cursor
	pages  []opened
	typing bool // a filter is typed
	quit   bool

	paused bool
	missed Answer // what came while paused
}

// view is how a pane is looked at.
type view struct {
	cursor string // the key of the cursor's row; "": the first row, whichever it is
	at     int    // the cursor among the rows
	top    int    // the first row on the screen
	room   int    // rows on the screen
	filter string
	found  []int // rows that the filter matches
}

// opened is a page that is open.
type opened struct {
	page
	top, room int
}

// New returns a model without an answer.
func New(t Texts) *Model {
	m := &Model{board: board{text: t}, panes: panes()}
	m.views = make([]view, len(m.panes))
	return m
}

// Quit reports whether the operator is done.
func (m *Model) Quit() bool { return m.quit }

// Take takes an answer. While paused it is kept, the latest of each kind: the stream of
// the status sends a status once only. The state of the connection is shown at once.
func (m *Model) Take(a Answer) {
	if m.paused && a.Failed == nil {
		m.board.reached(a.At)
		m.missed.merge(&a)
	} else {
		m.board.take(&a)
	}
	if a.Detail != nil {
		return // it changes no list
	}
	for i := range m.panes {
		m.settle(i)
	}
}

// pause stops or continues what the screen shows.
func (m *Model) pause() {
	m.paused = !m.paused
	if missed := m.missed; !m.paused && !missed.At.IsZero() {
		m.missed = Answer{}
		m.Take(missed)
	}
}

// settle finds the rows of a pane that its filter matches, and the cursor's among them.
func (m *Model) settle(i int) {
	p, v := m.panes[i], &m.views[i]
	if v.found = v.found[:0]; v.filter != "" {
		word := strings.ToLower(v.filter)
		for r := range p.count(&m.board) {
			if p.matches(&m.board, r, word) {
				v.found = append(v.found, r)
			}
		}
	}
	n := m.count(i)
	v.at = max(0, min(v.at, n-1))
	if v.cursor == "" || n == 0 {
		v.at = 0
		return
	}
	for at := range n {
		if p.key(&m.board, m.index(i, at)) == v.cursor {
			v.at = at
			return
		}
	}
	v.cursor = p.key(&m.board, m.index(i, v.at)) // its row is gone: the one in its place
}

// count returns how many rows of a pane there are to see.
func (m *Model) count(i int) int {
	if m.views[i].filter != "" {
		return len(m.views[i].found)
	}
	return m.panes[i].count(&m.board)
}

// index returns the row of a pane that is the at-th to see.
func (m *Model) index(i, at int) int {
	if m.views[i].filter != "" {
		return m.views[i].found[at]
	}
	return at
}

// Wants returns the sessions whose details the screen shows: the open one, the
// cursor's, and the others that were on the last frame.
func (m *Model) Wants() []string {
	var out []string
	for _, open := range slices.Backward(m.pages) {
		if p, ok := open.page.(peerPage); ok {
			out = append(out, p.address)
		}
	}
	for i, p := range m.panes {
		if _, ok := p.(sessions); !ok || len(m.pages) > 0 {
			continue
		}
		v, n := &m.views[i], m.count(i)
		if v.at < n {
			out = append(out, p.key(&m.board, m.index(i, v.at)))
		}
		for at := v.top; at < min(v.top+v.room, n); at++ {
			if at != v.at {
				out = append(out, p.key(&m.board, m.index(i, at)))
			}
		}
	}
	return out
}
