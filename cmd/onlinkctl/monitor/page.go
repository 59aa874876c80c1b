package monitor

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// page is what a row opens. It is made anew of every answer.
type page interface {
	// text returns the title and the lines, before they are wrapped.
	text(b *board, now time.Time) (title string, lines []string)
}

// peerPage is one session in detail, as onlinkctl peers NAME shows it.
type peerPage struct{ address string }

func (p peerPage) text(b *board, now time.Time) (string, []string) {
	title := "SESSION " + p.address
	if one := b.sessions.byAddr[p.address]; one != nil {
		title = "SESSION " + peerName(one)
	} else {
		return title, []string{"The agent does not list this session any longer; Esc goes back."}
	}
	d := b.details[p.address]
	if d == nil {
		return title, []string{"Waiting for the agent's answer."}
	}
	var out bytes.Buffer
	if err := b.text.Peer(&out, d.answer); err != nil {
		return title, []string{err.Error()}
	}
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	if d.rate >= 0 {
		title += fmt.Sprintf(", %.1f upd/s", d.rate)
	}
	if old := now.Sub(d.at); old > rateFor {
		title += ", " + b.text.Age(old) + " old"
	}
	return title, lines
}

// pageWidth is the width of a table on a page, which is wrapped where it is too wide.
const pageWidth = 160

// poolPage is the blocks of this node in a pool.
type poolPage struct{ pool string }

func (p poolPage) text(b *board, _ time.Time) (string, []string) {
	var rows [][]string
	for _, one := range b.blocks {
		if one.GetPool() != p.pool || one.GetElsewhere() {
			continue
		}
		announced := "no"
		if one.GetAnnounced() {
			announced = "yes"
		}
		rows = append(rows, []string{
			one.GetCidr(), num(one.GetUsed()), num(one.GetSize()), num(one.GetCooling()), announced, num(one.GetEpoch()),
		})
	}
	title := "BLOCKS of pool " + p.pool + " on this node"
	if len(rows) == 0 {
		return title, []string{"This node has no block of the pool."}
	}
	head, lines := table([]column{
		{name: "BLOCK"}, {name: "USED", right: true}, {name: "SIZE", right: true}, {name: "COOLING", right: true}, {name: "ANNOUNCED"}, {name: "EPOCH"},
	}, rows, pageWidth)
	return title, append([]string{head}, lines...)
}

// textPage is one text in full.
type textPage struct{ title, body string }

func (p textPage) text(*board, time.Time) (string, []string) { return p.title, []string{p.body} }

// helpPage lists the keys, and what the words of the overview mean.
type helpPage struct{}

func (helpPage) text(*board, time.Time) (string, []string) {
	return "HELP", strings.Split(helpText, "\n")
}

const helpText = `Tab, Shift-Tab   the next pane, the one before
Up, Down, j, k   move the cursor; also PgUp, PgDn, Home, End, g, G
Enter            open the row: a session in detail, the blocks of a pool, a text
Esc, Backspace   back; at the overview: end the filter
/                filter the pane; Enter keeps the filter, Esc ends it
p                pause; p again shows what changed meanwhile
?                this page
q, Ctrl-C        quit

held       changes that wait for a confirmation: onlinkctl status
Routes     those that the kernel has / those that are desired; changes of their
           number a second, over the last 10 seconds
unresolved without a usable next hop
failed     the kernel rejects them, or another program has the prefix
repaired   another program changed them, and onlink wrote them again (drift)
PEER       the name, or the address; with a "*" a dynamic peer
RECV/ACC/SENT  prefixes received, accepted by the import policy, and sent (not
           counted with more than 32 sessions)
UPD/S      UPDATE messages received a second, of the sessions on the screen
EVENTS     differences between two answers of the agent since monitor began`
