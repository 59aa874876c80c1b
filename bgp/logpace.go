package bgp

import (
	"sync"
	"time"
)

const (
	// logBurst is how many records of one kind about one peer are written in a
	// logWindow: a peer that sends nothing but faults, or connects in a loop,
	// must not fill the disk.
	logBurst  = 10
	logWindow = time.Minute
	// logKinds bounds the counters; beyond it peers share one of each kind.
	logKinds = 4096
)

// logPace bounds how often records are written. The zero value is ready; it may
// be used by several goroutines at once.
type logPace struct {
	mu    sync.Mutex // guards all below
	kinds map[string]*logKind
	swept time.Time
}

type logKind struct {
	since   time.Time
	written int
	left    int // left out since the last one written
}

// admit reports whether a record may be written, and how many like it were
// left out before. shared is its kind without the peer.
func (p *logPace) admit(kind, shared string, now time.Time) (ok bool, left int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kinds == nil {
		p.kinds = map[string]*logKind{}
	}
	k := p.kinds[kind]
	if k == nil && len(p.kinds) >= logKinds {
		p.sweep(now)
		if len(p.kinds) >= logKinds {
			kind = shared
			k = p.kinds[kind]
		}
	}
	if k == nil {
		k = &logKind{}
		p.kinds[kind] = k
	}
	if now.Sub(k.since) >= logWindow {
		k.since, k.written = now, 0
	}
	if k.written >= logBurst {
		k.left++
		return false, 0
	}
	k.written++
	left, k.left = k.left, 0
	return true, left
}

// sweep drops the counters of the kinds whose window is over, at most once a
// second because there are many.
func (p *logPace) sweep(now time.Time) {
	if now.Sub(p.swept) < time.Second {
		return
	}
	p.swept = now
	for kind, k := range p.kinds {
		if now.Sub(k.since) >= logWindow {
			delete(p.kinds, kind)
		}
	}
}
