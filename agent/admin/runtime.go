package admin

import (
	"context"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"onlink/diags"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// process is the service Runtime: the operator's view and control of the process.
type process struct {
	onlinkv1.UnimplementedRuntimeServer

	s *Server
}

const (
	// maxBundles bounds the bundles that are made at once, and maxBundlesEach those of
	// one caller: each has some MB of one part in memory.
	maxBundles     = 2
	maxBundlesEach = 1
	// auditPatience bounds the wait for the audit: a bundle is made also where the
	// database hangs.
	auditPatience = 2 * time.Second
	// bundleChunk is the size of a message.
	bundleChunk = 64 << 10 // bytes
)

// CollectDiags implements onlinkv1.RuntimeServer.
func (p process) CollectDiags(_ *onlinkv1.CollectDiagsRequest, to grpc.ServerStreamingServer[onlinkv1.DiagsChunk]) error {
	ctx := to.Context()
	end, err := p.s.bundles.begin(visitorOf(ctx))
	if err != nil {
		return err
	}
	defer end()
	p.s.Log.Warn("bundle for the person on call requested", "by", caller(ctx))
	p.noteBundle(ctx)
	return p.bundle(ctx, to.Send)
}

// noteBundle records the bundle in the audit, if the database answers soon.
func (p process) noteBundle(ctx context.Context) {
	done := make(chan error, 1)
	go func() {
		_, err := p.s.Audit.record(context.WithoutCancel(ctx), ipam.AuditDiags, p.s.Node, func() ([]ipam.Block, error) { return nil, nil })
		done <- err
	}()
	late := time.NewTimer(auditPatience)
	defer late.Stop()
	select {
	case err := <-done:
		if err != nil {
			p.s.Log.Error("failed to record the bundle in the audit", "err", err)
		}
	case <-late.C:
		p.s.Log.Error("failed to record the bundle in the audit", "err", "the database does not answer")
	}
}

// bundle sends a bundle.
func (p process) bundle(ctx context.Context, send func(*onlinkv1.DiagsChunk) error) error {
	src := p.sources()
	out := &chunks{send: send}
	b := diags.New(out, fmt.Sprintf("onlink-diags-%s-%s", p.s.Node, time.Now().UTC().Format("20060102T150405Z")), src.redactor())
	for _, part := range src.parts() {
		if err := send(&onlinkv1.DiagsChunk{Part: part.Name}); err != nil {
			return err
		}
		if err := b.Add(ctx, part); err != nil {
			return err
		}
	}
	return b.Close()
}

// chunks sends what is written to it as messages.
type chunks struct {
	send func(*onlinkv1.DiagsChunk) error
}

var _ io.Writer = (*chunks)(nil)

// Write implements [io.Writer].
func (c *chunks) Write(b []byte) (int, error) {
	for n := 0; n < len(b); n += bundleChunk {
		if err := c.send(&onlinkv1.DiagsChunk{Data: b[n:min(n+bundleChunk, len(b))]}); err != nil {
			return n, err
		}
	}
	return len(b), nil
}
