package reload

import (
	"context"
	"fmt"
	"strings"

	"onlink/agent/config"
	"onlink/agent/hold"
)

// Reread takes the file in as it is, also when it is the same as before: key
// files that it names may be others. The outcome is logged with the author, and kept
// for [Reloader.Trouble]. A file that would remove much is held ([ErrHeld]), unless
// confirmed. The error may be [config.Errors], [ErrRestart] or that of a part.
func (r *Reloader) Reread(ctx context.Context, by string, confirmed bool) error {
	if r.file == nil {
		return ErrNoFile
	}
	r.turn.Lock()
	defer r.turn.Unlock()
	text, err := r.file.Again()
	return r.takeText(ctx, by, text, confirmed, err)
}

// takeText takes the file's text in, or the error of its reading. Unless confirmed, a
// text that would remove much is held.
func (r *Reloader) takeText(ctx context.Context, by string, text []byte, confirmed bool, err error) error {
	if r.kept != "" && r.kept != digestOf(text) {
		r.kept = ""
		r.held.Drop(heldName) // it was this file's, which is another one now
	}
	var next *config.Effective
	if err == nil {
		r.seen = digestOf(text)
		next, err = r.resolve(text)
	}
	if err == nil { // a change that needs a restart is rejected, and not held
		err = r.parts.check(r.Current(), next)
	}
	if err == nil && !confirmed {
		if held := r.holdFile(ctx, by, text, next); held != nil {
			r.noteHeld()
			return held
		}
	}
	if err == nil {
		err = r.take(ctx, next, nil)
	}
	if ctx.Err() != nil {
		return ctx.Err() // the agent stops, that is no fault of the file
	}
	if err == nil && (r.kept != "" || digestOf(text) != r.Digest()) {
		r.kept = ""
		r.held.Drop(heldName) // it was made for another text
	}
	r.note(err, text)
	if err != nil {
		r.log.Error("configuration rejected, the last good one stays in force", "by", by, "err", err)
	} else {
		r.log.Info("configuration taken", "by", by, "file", r.file.Path)
	}
	return err
}

// holdFile holds the file's text when it would remove much, for as long as the file
// has it; nil: it is not held.
func (r *Reloader) holdFile(ctx context.Context, by string, text []byte, next *config.Effective) error {
	lost := r.losses(ctx, next, false, false)
	if lost.reason == "" {
		return nil
	}
	digest := digestOf(text)
	change := r.held.Hold(hold.Change{What: heldName, Reason: lost.reason, InFile: true}, []byte(strings.Join(lost.all, "\n")), func(ctx context.Context) error {
		return r.confirmFile(ctx, by, digest)
	})
	r.kept = digest
	return fmt.Errorf("%w: it would remove %s; correct the file, which a restart of onlinkd takes as it is, or confirm it with onlinkctl config confirm %s", ErrHeld, lost.reason, change.Digest)
}

// confirmFile takes the file in that was held, unless it was edited since.
func (r *Reloader) confirmFile(ctx context.Context, by, digest string) error {
	r.turn.Lock()
	defer r.turn.Unlock()
	text, err := r.file.Again()
	if err == nil && digestOf(text) != digest {
		return ErrStale
	}
	return r.takeText(ctx, by, text, true, err)
}
