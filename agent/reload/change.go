package reload

import (
	"context"
	"errors"
	"strings"

	"onlink/agent/config"
	"onlink/agent/forecast"
	"onlink/agent/hold"
)

// Edit is one change of the file.
type Edit struct {
	By       string // the author, for the log
	IfDigest string // of the text that it was made for; "": whatever the text is
	DryRun   bool   // only check
	// Forecast is the number of items in the lists of the outcome's forecast; 0: there is
	// none.
	Forecast int
	// Restart makes also a change that needs a restart: the file has it, the
	// present configuration stays in force, and [Reloader.Run] returns [ErrAnew].
	Restart bool
	// Guard holds the change, instead of making it, when it would withdraw most
	// announcements, or remove most peers or pools, all reflectors or every session.
	Guard bool
	// GuardAny holds with Guard also a change that would remove any peer or pool at all.
	GuardAny bool
	// Keys are written before the text is applied, as far as it names them. Keys
	// that the text does not name are removed after it.
	Keys []Key
	// Make returns the new text.
	Make func(old []byte) ([]byte, error)
}

// Outcome is what became of an edit.
type Outcome struct {
	Digest  string       // of the new text
	Changed bool         // it differs from the old one
	Held    *hold.Change // nothing was changed, see [Edit.Guard]; nil: it is not held
	// Forecast is what the agent would do with the new text, or would have done before it
	// was made; nil: none was requested.
	Forecast *forecast.Result
}

// Change edits the file and takes it in: both or nothing. Besides the errors of
// [Reloader.Reread] there are [ErrStale] and [ErrKey].
func (r *Reloader) Change(ctx context.Context, e Edit) (Outcome, error) {
	if r.file == nil {
		return Outcome{}, ErrNoFile
	}
	if err := checkKeys(e.Keys); err != nil {
		return Outcome{}, err
	}
	r.turn.Lock()
	defer r.turn.Unlock()
	old, err := r.file.Again()
	if err != nil {
		return Outcome{}, err
	}
	if e.IfDigest != "" && e.IfDigest != digestOf(old) {
		return Outcome{}, ErrStale
	}
	text, err := e.Make(old)
	if err != nil {
		return Outcome{}, err
	}
	next, err := r.resolve(text)
	if err != nil {
		return Outcome{}, err
	}
	err = r.parts.check(r.Current(), next)
	restart := e.Restart && errors.Is(err, ErrRestart)
	if err != nil && !restart {
		return Outcome{}, err
	}
	if restart {
		if err := r.fits(next); err != nil {
			return Outcome{}, err
		}
	}
	out := Outcome{Digest: digestOf(text), Changed: digestOf(text) != digestOf(old)}
	if e.Forecast > 0 {
		out.Forecast = r.forecast(ctx, next, err, e.Forecast)
	}
	if e.Guard {
		if lost := r.losses(ctx, next, e.GuardAny, restart); lost.reason != "" {
			out.Held, out.Changed = r.hold(&lost, digestOf(old), text, e), false
			return out, nil
		}
	}
	switch {
	case e.DryRun:
		return out, nil
	case restart:
		err = r.leave(e, text, next)
	default:
		err = r.keep(ctx, e, text, next)
	}
	if err != nil {
		return Outcome{}, err
	}
	return out, nil
}

// forecast returns what the agent would do with a configuration. restart is why it needs
// one, nil: it needs none.
func (r *Reloader) forecast(ctx context.Context, next *config.Effective, restart error, items int) *forecast.Result {
	if restart != nil {
		return &forecast.Result{Restart: restart.Error()}
	}
	out, err := r.foresee(ctx, next, items)
	if err != nil {
		return &forecast.Result{Unknown: err.Error()}
	}
	return out
}

// hold holds a change until it is confirmed, for as long as the file stays the
// one that it was made for. What it would remove identifies it. A dry run only
// returns it.
func (r *Reloader) hold(lost *removal, old string, text []byte, e Edit) *hold.Change {
	if e.DryRun {
		return &hold.Change{What: heldName, Reason: lost.reason}
	}
	r.kept = "" // it replaces a held file
	confirmed := e
	confirmed.Guard, confirmed.IfDigest = false, old
	confirmed.Make = func([]byte) ([]byte, error) { return text, nil }
	change := r.held.Hold(hold.Change{What: heldName, Reason: lost.reason}, []byte(strings.Join(lost.all, "\n")), func(ctx context.Context) error {
		_, err := r.Change(ctx, confirmed)
		return err
	})
	return &change
}

// keep takes a configuration in and puts its text into the file's place. A held
// change was made for another text, and is dropped.
func (r *Reloader) keep(ctx context.Context, e Edit, text []byte, next *config.Effective) error {
	draft, err := r.file.Draft(text)
	if err != nil {
		return err
	}
	keys := keysOf(next)
	restore, err := keys.write(&next.Config, e.Keys)
	if err != nil {
		return errors.Join(err, draft.Discard())
	}
	if err := r.take(ctx, next, restore); err != nil {
		return errors.Join(err, draft.Discard())
	}
	err = draft.Keep()
	r.note(err, text) // an error: the file is not in force, and status reports it
	if err != nil {
		return err
	}
	r.seen, r.kept = digestOf(text), ""
	r.held.Drop(heldName)
	if err := keys.prune(&next.Config); err != nil {
		r.log.Warn("failed to remove key files that the configuration does not name", "err", err)
	}
	r.log.Info("configuration taken", "by", e.By, "file", r.file.Path)
	return nil
}

// leave puts a text and its keys into their places for the agent that begins anew.
func (r *Reloader) leave(e Edit, text []byte, next *config.Effective) error {
	draft, err := r.file.Draft(text)
	if err != nil {
		return err
	}
	restore, err := keysOf(next).write(&next.Config, e.Keys)
	if err != nil {
		return errors.Join(err, draft.Discard())
	}
	if err := draft.Keep(); err != nil {
		return errors.Join(err, restore())
	}
	r.seen, r.kept = digestOf(text), ""
	r.held.Drop(heldName)
	r.log.Info("configuration written, the agent begins anew with it", "by", e.By, "file", r.file.Path)
	select {
	case r.anew <- struct{}{}:
	default: // the agent is about to begin anew
	}
	return nil
}
