// Package logs is the agent's log: a level for each part of the agent, which an
// operator changes while the agent runs, and the latest lines in memory. The part
// of a line is the value of its attribute "part", as the loggers have it that
// [Log.Logger] hands out by With("part", NAME); a line without one is of the part
// "agent".
//
// The level of a part is the configuration's, unless an operator set another one:
// that one goes with its time, with the process, or when it is cleared.
package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// PartKey is the attribute that has the name of a part.
const PartKey = "part"

// Main is the part of the lines that have none.
const Main = "agent"

// ErrUnknownPart means that no logger has the name of a part.
var ErrUnknownPart = errors.New("the log has no such part")

// Log is the log of a process. Its methods may be called concurrently.
type Log struct {
	lines Recent
	out   slog.Handler

	mu         sync.Mutex       // guards all below
	configured slog.Level       // of parts without a setting
	parts      map[string]*part // by name; a part is never removed
}

// part is one part of the log.
type part struct {
	// level is read for every line without the lock.
	level slog.LevelVar
	set   *Setting // nil: the configuration's level; guarded by Log.mu
}

// Setting is a level that an operator has set.
type Setting struct {
	Level slog.Level
	By    string    // the author
	Until time.Time // the zero Time: until the process ends
}

// Part is the level of one part.
type Part struct {
	Name  string
	Level slog.Level
	Set   *Setting // nil: Level is the configuration's
}

// New returns a log that writes to w, as JSON objects or as text.
func New(w io.Writer, level slog.Level, json bool) *Log {
	l := &Log{configured: level, parts: map[string]*part{}}
	both := io.MultiWriter(w, &l.lines)
	opt := &slog.HandlerOptions{Level: slog.LevelDebug} // the parts have their levels
	if json {
		l.out = slog.NewJSONHandler(both, opt)
	} else {
		l.out = slog.NewTextHandler(both, opt)
	}
	return l
}

// Logger returns the logger of the part [Main], which all others are derived from.
func (l *Log) Logger() *slog.Logger {
	return slog.New(&handler{log: l, part: l.of(Main), bare: l.out, out: l.out})
}

// Lines returns the latest lines.
func (l *Log) Lines() *Recent { return &l.lines }

// of returns a part, which exists from now on.
func (l *Log) of(name string) *part {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parts[name]
	if p == nil {
		p = &part{}
		p.level.Set(l.configured)
		l.parts[name] = p
	}
	return p
}

// Configure makes a level that of all parts without a setting.
func (l *Log) Configure(level slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.configured = level
	for _, p := range l.parts {
		if p.set == nil {
			p.level.Set(level)
		}
	}
}

// Levels returns the configuration's level and the parts by name.
func (l *Log) Levels() (configured slog.Level, parts []Part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(l.parts)) {
		p := l.parts[name]
		one := Part{Name: name, Level: p.level.Level()}
		if p.set != nil {
			set := *p.set
			one.Set = &set
		}
		parts = append(parts, one)
	}
	return l.configured, parts
}

// Notes returns one line for each setting that is not the configuration's.
func (l *Log) Notes() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := map[*Setting][]string{}
	for _, name := range slices.Sorted(maps.Keys(l.parts)) {
		if set := l.parts[name].set; set != nil {
			of[set] = append(of[set], name)
		}
	}
	var out []string
	for set, names := range of {
		if len(names) == len(l.parts) {
			names = []string{"all parts"}
		}
		until := "a restart"
		if !set.Until.IsZero() {
			until = set.Until.UTC().Format(time.RFC3339)
		}
		out = append(out, fmt.Sprintf("the log level of %s is %s until %s, set by %s; onlinkctl log config returns it to the configuration's",
			strings.Join(names, ", "), levelText(set.Level), until, set.By))
	}
	slices.Sort(out)
	return out
}

// Set sets the level of the named parts, or of all that there are when none is
// named, for a time; 0: until the process ends. It changes nothing when a name is
// of no part.
func (l *Log) Set(level slog.Level, by string, during time.Duration, names ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	parts, err := l.namedLocked(names)
	if err != nil {
		return err
	}
	set := &Setting{Level: level, By: by}
	if during > 0 {
		set.Until = time.Now().Add(during)
	}
	for _, p := range parts {
		p.set = set
		p.level.Set(level)
	}
	lasts := "until a restart"
	if during > 0 {
		lasts = during.String()
		time.AfterFunc(during, func() { l.end(set) })
	}
	l.note("log level set", "parts", partsText(names), "to", levelText(level), "lasts", lasts, "by", by)
	return nil
}

// Clear returns the named parts, or all, to the configuration's level.
func (l *Log) Clear(by string, names ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	parts, err := l.namedLocked(names)
	if err != nil {
		return err
	}
	for _, p := range parts {
		l.clearLocked(p)
	}
	l.note("log level is the configuration's again", "parts", partsText(names), "to", levelText(l.configured), "by", by)
	return nil
}

// note writes a line about the log itself, whatever the levels are: else one who
// turns the log off would leave no trace.
func (l *Log) note(msg string, about ...any) {
	r := slog.NewRecord(time.Now(), slog.LevelWarn, msg, 0)
	r.Add(about...)
	_ = l.out.Handle(context.Background(), r) // as any line that cannot be written
}

// partsText writes the names of a request.
func partsText(names []string) string {
	if len(names) == 0 {
		return "all"
	}
	return strings.Join(names, ",")
}

// levelText writes a level as the configuration does.
func levelText(level slog.Level) string { return strings.ToLower(level.String()) }

// end ends a setting whose time has come, of the parts where no other one has
// replaced it.
func (l *Log) end(set *Setting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(l.parts)) {
		if p := l.parts[name]; p.set == set {
			l.clearLocked(p)
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		l.note("log level is the configuration's again", "parts", partsText(names), "to", levelText(l.configured), "by", "its time")
	}
}

func (l *Log) clearLocked(p *part) {
	p.set = nil
	p.level.Set(l.configured)
}

// namedLocked returns the parts of these names; all of them for none.
func (l *Log) namedLocked(names []string) ([]*part, error) {
	if len(names) == 0 {
		return slices.Collect(maps.Values(l.parts)), nil
	}
	var out []*part
	for _, name := range names {
		p := l.parts[name]
		if p == nil {
			return nil, fmt.Errorf("%q: %w: use %s", name, ErrUnknownPart, strings.Join(slices.Sorted(maps.Keys(l.parts)), ", "))
		}
		out = append(out, p)
	}
	return out, nil
}

// handler is a [slog.Handler] with the level of its part.
type handler struct {
	log  *Log
	part *part
	// bare has the attributes but the part, and out has both: a logger that is given
	// another part writes one only.
	bare, out slog.Handler
	grouped   bool // attributes are inside a group: a part is none of ours there
}

// Enabled implements [slog.Handler]: one load, where the level is not enough.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.part.level.Level()
}

// Handle implements [slog.Handler].
func (h *handler) Handle(ctx context.Context, r slog.Record) error { return h.out.Handle(ctx, r) }

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	i := slices.IndexFunc(attrs, func(a slog.Attr) bool { return a.Key == PartKey })
	next := *h
	if i < 0 || h.grouped {
		next.bare, next.out = h.bare.WithAttrs(attrs), h.out.WithAttrs(attrs)
		return &next
	}
	if rest := slices.Concat(attrs[:i], attrs[i+1:]); len(rest) > 0 {
		next.bare = h.bare.WithAttrs(rest)
	}
	next.part, next.out = h.log.of(attrs[i].Value.String()), next.bare.WithAttrs(attrs[i:i+1])
	return &next
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	next := *h
	next.bare, next.out, next.grouped = h.bare.WithGroup(name), h.out.WithGroup(name), true
	return &next
}
