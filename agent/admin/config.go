package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/agent/config"
	"onlink/agent/reload"
	onlinkv1 "onlink/proto/v1"
)

// maxShown is the size of the largest configuration file, in bytes. A larger one is none,
// and what a client says of an answer that is too large names no file.
const maxShown = 4 << 20

// GetConfig implements onlinkv1.AdminServer.
func (s *Server) GetConfig(context.Context, *onlinkv1.GetConfigRequest) (*onlinkv1.GetConfigReply, error) {
	path, text, digest, err := s.File.Text()
	if err != nil {
		return nil, configStatus(err)
	}
	if len(text) > maxShown {
		return nil, status.Errorf(codes.FailedPrecondition, "%s has more than %d KiB, which no answer can hold; is this the right file?", path, maxShown>>10)
	}
	// A field of protobuf holds UTF-8 alone: without this the file that has to be looked at
	// is the one that cannot be shown.
	rep := &onlinkv1.GetConfigReply{File: path, Text: strings.ToValidUTF8(string(text), "?"), Digest: digest}
	if err := s.File.Trouble(); err != nil {
		rep.Problem = bounded(err.Error())
	}
	return rep, nil
}

// ChangeConfig implements onlinkv1.AdminServer. Once begun it is done to the
// end, also when the caller goes away.
func (s *Server) ChangeConfig(ctx context.Context, req *onlinkv1.ChangeConfigRequest) (*onlinkv1.ChangeConfigReply, error) {
	edits, err := configEdits(req)
	if err != nil {
		return nil, configStatus(editError{err})
	}
	edit := func([]byte) ([]byte, error) { return []byte(req.GetText()), nil }
	if len(edits) > 0 {
		edit = func(old []byte) ([]byte, error) {
			text, err := config.Apply(old, edits)
			if err != nil {
				err = editError{err}
			}
			return text, err
		}
	}
	var keys []reload.Key
	for _, k := range req.GetKeys() {
		keys = append(keys, reload.Key{Name: k.GetName(), Content: k.GetContent()})
	}
	once := context.WithoutCancel(ctx)
	items := 0
	if req.GetDryRun() {
		once, items = ctx, forecastItems(req.GetForecast()) // it changes nothing, and may take a while
	}
	out, err := s.File.Change(once, reload.Edit{
		Forecast: items,
		By:       caller(ctx), IfDigest: req.GetIfDigest(), DryRun: req.GetDryRun(), Restart: req.GetRestart(), Guard: !req.GetConfirm(), GuardAny: req.GetGuardAny(), Keys: keys, Make: edit,
	})
	if err != nil {
		return nil, configStatus(err)
	}
	rep := &onlinkv1.ChangeConfigReply{Digest: out.Digest, Changed: out.Changed, Forecast: forecastToWire(out.Forecast)}
	if out.Held != nil {
		rep.Held = heldToWire(*out.Held)
	}
	return rep, nil
}

// ReloadConfig implements onlinkv1.AdminServer. It takes the file in also when
// it is the same as before: key files that it names may be others.
func (s *Server) ReloadConfig(ctx context.Context, req *onlinkv1.ReloadConfigRequest) (*onlinkv1.ReloadConfigReply, error) {
	if err := s.File.Reread(context.WithoutCancel(ctx), caller(ctx), req.GetConfirm()); err != nil {
		return nil, configStatus(err)
	}
	path, _, digest, err := s.File.Text()
	if err != nil {
		return nil, configStatus(err)
	}
	return &onlinkv1.ReloadConfigReply{File: path, Digest: digest}, nil
}

// editError is an edit that cannot be made.
type editError struct{ error }

// configEdits reads the edits of a request.
func configEdits(req *onlinkv1.ChangeConfigRequest) ([]config.Edit, error) {
	var out []config.Edit
	if (req.GetText() == "") == (len(req.GetEdits()) == 0) {
		return nil, errors.New("set either text or edits")
	}
	for i, e := range req.GetEdits() {
		var one config.Edit
		switch e := e.GetEdit().(type) {
		case *onlinkv1.ConfigEdit_PutPeer:
			one = config.Edit{List: config.EditPeers, Entry: e.PutPeer}
		case *onlinkv1.ConfigEdit_RemovePeer:
			one = config.Edit{List: config.EditPeers, Name: e.RemovePeer}
		case *onlinkv1.ConfigEdit_PutFilter:
			one = config.Edit{List: config.EditFilters, Entry: e.PutFilter}
		case *onlinkv1.ConfigEdit_RemoveFilter:
			one = config.Edit{List: config.EditFilters, Name: e.RemoveFilter}
		default:
			return nil, fmt.Errorf("edits[%d] is empty", i)
		}
		if one.Name == "" {
			var err error
			if one.Name, err = config.EntryName(one.Entry); err != nil {
				return nil, fmt.Errorf("edits[%d]: %w", i, err)
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// maxAnswer bounds the text of an error, which may quote the request: it goes
// into the headers of the answer, and a client that receives more of those than
// it accepts sees no reason at all.
const maxAnswer = 128 << 10

// bounded returns a text that an answer can hold: cut, and all of it UTF-8.
func bounded(text string) string {
	if len(text) > maxAnswer {
		text = text[:maxAnswer] + " ..."
	}
	return strings.ToValidUTF8(text, "?")
}

// configStatus returns the code of an error: the caller's fault or the agent's.
func configStatus(err error) error {
	var mistakes config.Errors
	var edit editError
	text := bounded(err.Error())
	switch {
	case errors.As(err, &mistakes), errors.As(err, &edit), errors.Is(err, reload.ErrKey):
		return invalid(text, err)
	case errors.Is(err, reload.ErrStale):
		return status.Error(codes.Aborted, text)
	case errors.Is(err, reload.ErrRestart), errors.Is(err, reload.ErrHeld), errors.Is(err, reload.ErrNoFile), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return status.Error(codes.FailedPrecondition, text)
	}
	return status.Error(codes.Internal, text)
}
