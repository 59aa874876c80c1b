package monitor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	onlinkv1 "onlink/proto/v1"
)

// pane is one list of the overview, over a board.
type pane interface {
	name() string
	summary(b *board) string // beside the name; may be empty
	columns() []column       // none: a list without a head
	count(b *board) int
	// key names a row for as long as it is listed: the cursor stays on it.
	key(b *board, i int) string
	// matches reports whether a row has a word, in lower case, that a filter asks for.
	matches(b *board, i int, word string) bool
	row(b *board, i int, now time.Time) row
	// open returns the page of a row.
	open(b *board, i int) page
}

// row is a row of a pane.
type row struct {
	cells []string
	tone  Tone
}

// panes are those of the overview, from the top.
func panes() []pane { return []pane{sessions{}, problems{}, addresses{}, events{}} }

// has reports whether one of the texts has a word, whatever their case.
func has(word string, texts ...string) bool {
	for _, t := range texts {
		if strings.Contains(strings.ToLower(t), word) {
			return true
		}
	}
	return false
}

// num writes a counter.
func num[T uint32 | uint64](n T) string { return strconv.FormatUint(uint64(n), 10) }

// dash stands for what is empty or not known.
func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// times writes a number of things.
func times(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// sessions lists the BGP sessions, those that are down first.
type sessions struct{}

func (sessions) name() string { return "SESSIONS" }

func (sessions) summary(b *board) string {
	if b.status == nil {
		return ""
	}
	return fmt.Sprintf("%d of %d up", b.status.GetPeersEstablished(), b.status.GetPeersTotal())
}

func (sessions) columns() []column {
	return []column{
		{name: "PEER"},
		{name: "ADDRESS", spare: 3},
		{name: "AS", right: true, spare: 1},
		{name: "STATE"},
		{name: "SINCE", right: true},
		{name: "RECV/ACC/SENT"},
		{name: "UPD/S", right: true, spare: 2},
		{name: "LAST ERROR"},
	}
}

func (sessions) count(b *board) int         { return len(b.peers) }
func (sessions) key(b *board, i int) string { return b.peers[i].GetAddress() }
func (sessions) open(b *board, i int) page  { return peerPage{b.peers[i].GetAddress()} }
func (sessions) matches(b *board, i int, word string) bool {
	p := b.peers[i]
	return has(word, p.GetName(), p.GetAddress(), p.GetState(), p.GetRole(), p.GetLastError(), p.GetHeld(), p.GetTrouble(), num(p.GetAsn()))
}

// rateFor is how long the rate of a session that is no longer asked for stays.
const rateFor = 15 * time.Second

func (sessions) row(b *board, i int, now time.Time) row {
	p := b.peers[i]
	updates := "-"
	if d := b.details[p.GetAddress()]; d != nil && d.rate >= 0 && now.Sub(d.at) < rateFor {
		updates = fmt.Sprintf("%.1f", d.rate)
	}
	return row{
		cells: []string{
			peerLabel(p), p.GetAddress(), num(p.GetAsn()), p.GetState(), b.text.Age(p.GetSince().AsDuration()),
			fmt.Sprintf("%d/%d/%d", p.GetPrefixesIn(), p.GetAccepted(), p.GetPrefixesOut()), updates, dash(b.text.Trouble(p)),
		},
		tone: toneOfPeer(p),
	}
}

// peerLabel is a peer in one word.
func peerLabel(p *onlinkv1.Peer) string {
	if p.GetName() == "" || p.GetDynamic() {
		return peerName(p)
	}
	return p.GetName()
}

func toneOfPeer(p *onlinkv1.Peer) Tone {
	switch {
	case p.GetGone():
		return Dim
	case p.GetState() != established:
		return Bad
	case p.GetTrouble() != "" || p.GetHeld() != "" || !p.GetEndOfRib():
		return Warn
	}
	return Plain
}

// problems lists the problems, then the notes.
type problems struct{}

func (problems) name() string { return "PROBLEMS" }

func (problems) summary(b *board) string {
	return times(len(b.status.GetProblems()), "problem") + ", " + times(len(b.status.GetNotes()), "note")
}

func (problems) columns() []column { return nil }

func (problems) count(b *board) int { return len(b.status.GetProblems()) + len(b.status.GetNotes()) }

// at returns a line and whether it is a note.
func (problems) at(b *board, i int) (text string, note bool) {
	if n := len(b.status.GetProblems()); i >= n {
		return b.status.GetNotes()[i-n], true
	}
	return b.status.GetProblems()[i], false
}

func (p problems) key(b *board, i int) string {
	text, _ := p.at(b, i)
	return shape(text)
}

func (p problems) matches(b *board, i int, word string) bool {
	text, _ := p.at(b, i)
	return has(word, text)
}

func (p problems) row(b *board, i int, _ time.Time) row {
	text, note := p.at(b, i)
	if note {
		return row{cells: []string{"note: " + text}, tone: Dim}
	}
	return row{cells: []string{text}, tone: Bad}
}

func (p problems) open(b *board, i int) page {
	text, note := p.at(b, i)
	if note {
		return textPage{"NOTE", text}
	}
	return textPage{"PROBLEM", text}
}

// addresses lists the pools and this node's use of them.
type addresses struct{}

func (addresses) name() string { return "ADDRESSES" }

func (addresses) summary(b *board) string { return times(len(b.pools), "pool") }

func (addresses) columns() []column {
	return []column{
		{name: "POOL"},
		{name: "CIDR"},
		{name: "USED", right: true},
		{name: "OF", right: true},
		{name: "BLOCKS", right: true},
		{name: "ENCAPSULATION", spare: 1},
		{name: "TUNNEL"},
	}
}

func (addresses) count(b *board) int { return len(b.pools) }
func (addresses) key(b *board, i int) string {
	return b.pools[i].GetName() + " " + b.pools[i].GetCidr()
}
func (addresses) open(b *board, i int) page { return poolPage{b.pools[i].GetName()} }
func (addresses) matches(b *board, i int, word string) bool {
	return has(word, b.pools[i].GetName(), b.pools[i].GetCidr())
}

func (addresses) row(b *board, i int, _ time.Time) row {
	p, size, tone := b.pools[i], b.size(b.pools[i].GetName()), Plain
	if size > 0 && uint64(p.GetUsed()) >= size {
		tone = Warn // the next pod needs another block
	}
	return row{
		cells: []string{
			p.GetName(), p.GetCidr(), num(p.GetUsed()), num(size), num(p.GetBlocks()), p.GetEncapsulation(), p.GetTunnel(),
		},
		tone: tone,
	}
}

// events lists what changed, the newest first.
type events struct{}

func (events) name() string { return "EVENTS" }

func (events) summary(*board) string { return "newest first" }

func (events) columns() []column { return nil }

func (events) count(b *board) int         { return len(b.events.list) }
func (events) key(b *board, i int) string { return num(b.events.newest(i).seq) }
func (events) matches(b *board, i int, word string) bool {
	return has(word, b.events.newest(i).text)
}

func (events) row(b *board, i int, _ time.Time) row {
	e := b.events.newest(i)
	return row{cells: []string{e.at.Format(time.TimeOnly) + "  " + e.text}, tone: e.tone}
}

func (events) open(b *board, i int) page {
	e := b.events.newest(i)
	return textPage{"EVENT of " + e.at.Format(time.DateTime), e.text}
}
