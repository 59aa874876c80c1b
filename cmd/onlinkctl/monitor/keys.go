package monitor

import (
	"math"
	"unicode/utf8"
)

// The keys that have a name; any other is its character.
const (
	KeyUp        = "Up"
	KeyDown      = "Down"
	KeyPgUp      = "PgUp"
	KeyPgDn      = "PgDn"
	KeyHome      = "Home"
	KeyEnd       = "End"
	KeyEnter     = "Enter"
	KeyEsc       = "Esc"
	KeyBackspace = "Backspace"
	KeyTab       = "Tab"
	KeyBacktab   = "Backtab"
	KeyCtrlC     = "Ctrl-C"
)

// Press takes a key.
func (m *Model) Press(key string) {
	if key == KeyCtrlC {
		m.quit = true
		return
	}
	if m.typing {
		m.edit(key)
		return
	}
	switch key {
	case "q":
		m.quit = true
	case "p":
		m.pause()
	case "?":
		if n := len(m.pages); n > 0 && m.pages[n-1].page == (helpPage{}) {
			m.back() // a second one closes it
		} else {
			m.pages = append(m.pages, opened{page: helpPage{}})
		}
	case KeyEsc, KeyBackspace:
		m.back()
	default:
		if n := len(m.pages); n > 0 {
			m.pages[n-1].top = moved(key, m.pages[n-1].top, m.pages[n-1].room)
		} else {
			m.overview(key)
		}
	}
}

// back closes the open page, or ends the filter.
func (m *Model) back() {
	if n := len(m.pages); n > 0 {
		m.pages = m.pages[:n-1]
		return
	}
	m.filter("")
}

// overview is a key without an open page.
func (m *Model) overview(key string) {
	v, n := &m.views[m.focus], m.count(m.focus)
	switch key {
	case KeyTab:
		m.focus = (m.focus + 1) % len(m.panes)
	case KeyBacktab:
		m.focus = (m.focus + len(m.panes) - 1) % len(m.panes)
	case "/":
		m.typing = true
	case KeyEnter:
		if v.at < n {
			m.pages = append(m.pages, opened{page: m.panes[m.focus].open(&m.board, m.index(m.focus, v.at))})
		}
	default:
		if to := max(0, min(moved(key, v.at, v.room), n-1)); to != v.at {
			v.at, v.cursor = to, ""
			if to > 0 {
				v.cursor = m.panes[m.focus].key(&m.board, m.index(m.focus, to))
			}
		}
	}
}

// moved returns the place that a key moves to, not yet bounded.
func moved(key string, at, room int) int {
	switch key {
	case KeyUp, "k":
		return at - 1
	case KeyDown, "j":
		return at + 1
	case KeyPgUp:
		return at - max(room, 1)
	case KeyPgDn:
		return at + max(room, 1)
	case KeyHome, "g":
		return 0
	case KeyEnd, "G":
		return math.MaxInt32
	}
	return at
}

// edit is a key while a filter is typed: the rows follow each character.
func (m *Model) edit(key string) {
	text := m.views[m.focus].filter
	switch key {
	case KeyEnter:
		m.typing = false
	case KeyEsc:
		m.typing = false
		m.filter("")
	case KeyBackspace:
		_, size := utf8.DecodeLastRuneInString(text)
		m.filter(text[:len(text)-size])
	default:
		if utf8.RuneCountInString(key) == 1 {
			m.filter(text + key)
		}
	}
}

// filter sets the filter of the pane with the cursor.
func (m *Model) filter(text string) {
	m.views[m.focus].filter = text
	m.settle(m.focus)
}
