package agent

import (
	"context"
	"errors"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/agent/state"
	"onlink/cni"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
)

// CheckIPAM implements onlinkv1.AdminServer.
func (s *admin) CheckIPAM(ctx context.Context, r *onlinkv1.CheckIPAMRequest) (*onlinkv1.CheckIPAMReply, error) {
	rep := &onlinkv1.CheckIPAMReply{}
	if r.GetRepair() {
		freed, err := s.a.cni.Sweep(ctx)
		for _, at := range freed {
			rep.Repaired = append(rep.Repaired, "freed the addresses of "+at.Namespace+"/"+at.Pod+" ("+handle(at).String()+"), which is gone")
		}
		if err != nil {
			return nil, status.Errorf(codes.Internal, "free what is gone: %v", err)
		}
	}
	problems, err := s.a.checkIPAM(ctx)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "check: %v", err)
	}
	st := s.a.alloc.Stats()
	standing := state.IPAM{Stats: st, Standing: s.a.alloc.Standing()}
	if text := standing.StandingText(); text != "" {
		problems = append([]string{text}, problems...)
	}
	rep.Problems = problems
	rep.Assignments, rep.Blocks = uint32(st.Assignments), uint32(st.Blocks) //nolint:gosec // counts of one node
	return rep, nil
}

// ReleaseAddress implements onlinkv1.AdminServer.
func (s *admin) ReleaseAddress(ctx context.Context, r *onlinkv1.ReleaseAddressRequest) (*onlinkv1.ReleaseAddressReply, error) {
	addr, err := netip.ParseAddr(r.GetAddress())
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "address: %v", err)
	}
	as, ok := s.a.alloc.ByAddress(addr)
	if !ok {
		return nil, status.Errorf(codes.NotFound, "%v is not in use on this node", addr)
	}
	rep := &onlinkv1.ReleaseAddressReply{Assignment: s.a.assignmentToWire(as, addr)}
	if r.GetForce() {
		_, err = s.a.audit.do(ctx, auditReleaseAddress, addr.String(), func() ([]ipam.Block, error) {
			return nil, s.a.cni.Evict(ctx, cni.Attachment{
				ContainerID: as.ContainerID, IfName: as.IfName, Netns: as.Netns, Namespace: as.Namespace, Pod: as.Pod, UID: as.UID,
			})
		})
	} else {
		_, err = s.a.cni.Sweep(ctx)
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "release %v: %v", addr, err)
	}
	if _, still := s.a.alloc.Lookup(as.Handle); still {
		return nil, status.Errorf(codes.FailedPrecondition, "%v belongs to pod %s/%s, whose namespace or interface is there: delete the pod, or cut it off with --force", addr, as.Namespace, as.Pod)
	}
	s.a.log.Warn("address released by an operator", "address", addr, "namespace", as.Namespace, "pod", as.Pod, "force", r.GetForce())
	return rep, nil
}

// ReleaseNode implements onlinkv1.AdminServer.
func (s *admin) ReleaseNode(ctx context.Context, r *onlinkv1.ReleaseNodeRequest) (*onlinkv1.ReleaseNodeReply, error) {
	reg, ok := s.a.registry.(ipam.ForceReleaser)
	switch {
	case !ok:
		return nil, status.Error(codes.Unimplemented, "this registry cannot release by force")
	case r.GetNode() == s.a.id.Name:
		return nil, status.Errorf(codes.InvalidArgument, "%q is this node, and it runs", r.GetNode())
	}
	blocks, err := s.a.audit.do(ctx, auditReleaseNode, r.GetNode(), func() ([]ipam.Block, error) {
		return reg.ForceRelease(ctx, r.GetNode())
	})
	switch {
	case errors.Is(err, ipam.ErrInvalidRequest):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case err != nil:
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	rep := &onlinkv1.ReleaseNodeReply{}
	for _, b := range blocks {
		rep.Blocks = append(rep.Blocks, &onlinkv1.Block{Cidr: b.CIDR.String(), Pool: b.Pool, Node: b.Node, Epoch: b.Epoch})
	}
	return rep, nil
}

// backupChunk keeps a message of the backup well below gRPC's limit of 4 MiB.
const backupChunk = 256 << 10

// BackupIPAM implements onlinkv1.AdminServer.
func (s *admin) BackupIPAM(_ *onlinkv1.BackupIPAMRequest, out onlinkv1.Admin_BackupIPAMServer) error {
	err := s.a.store.Backup(chunkWriter{out})
	if err != nil {
		return status.Errorf(codes.Internal, "backup: %v", err)
	}
	return nil
}

// chunkWriter sends what is written to it.
type chunkWriter struct {
	out onlinkv1.Admin_BackupIPAMServer
}

// Write implements io.Writer.
func (w chunkWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); n += backupChunk {
		if err := w.out.Send(&onlinkv1.BackupIPAMChunk{Data: p[n:min(n+backupChunk, len(p))]}); err != nil {
			return n, err
		}
	}
	return len(p), nil
}
