package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// Auditor records forced actions in the database: before they happen, so that
// none goes unrecorded, and with their result afterwards; and calls that were denied.
type Auditor struct {
	Store AuditStore
	Log   *slog.Logger

	denials *denials
}

// AuditStore holds the audit: an [ipam.Store].
type AuditStore interface {
	BeginAudit(e ipam.AuditEntry) (uint64, error)
	EndAudit(n uint64, taken []ipam.Block, err error) error
}

// NewAuditor returns the audit that is in a database.
func NewAuditor(store AuditStore, log *slog.Logger) Auditor {
	return Auditor{Store: store, Log: log, denials: &denials{}}
}

// Do performs a forced action of an operator, and returns the taken blocks. It
// does nothing when the action cannot be recorded.
func (a Auditor) Do(ctx context.Context, action, target string, deed func() ([]ipam.Block, error)) ([]ipam.Block, error) {
	taken, err := a.record(ctx, action, target, deed)
	if !errors.Is(err, errNoAudit) {
		a.Log.Warn("forced by an operator", "action", action, "target", target, "by", caller(ctx), "blocks", len(taken), "err", err)
	}
	return taken, err
}

// errNoAudit means that a deed was not done, because it cannot be recorded.
var errNoAudit = errors.New("not done: the audit entry cannot be written")

// record is Do without the line in the log, for a deed that writes its own.
func (a Auditor) record(ctx context.Context, action, target string, deed func() ([]ipam.Block, error)) ([]ipam.Block, error) {
	n, err := a.Store.BeginAudit(ipam.AuditEntry{Began: time.Now(), Action: action, Target: target, By: caller(ctx)})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAudit, err)
	}
	taken, err := deed()
	if aerr := a.Store.EndAudit(n, taken, err); aerr != nil {
		a.Log.Error("failed to complete audit entry", "err", aerr)
	}
	return taken, err
}

// AuditIPAM implements onlinkv1.AdminServer.
func (s *Server) AuditIPAM(context.Context, *onlinkv1.AuditIPAMRequest) (*onlinkv1.AuditIPAMReply, error) {
	entries, err := s.Store.Audit()
	if err != nil {
		return nil, status.Errorf(codes.Internal, "audit: %v", err)
	}
	rep := &onlinkv1.AuditIPAMReply{}
	for _, e := range entries {
		rep.Entries = append(rep.Entries, auditToWire(e))
	}
	return rep, nil
}
