package admin

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
func (s *Server) CheckIPAM(ctx context.Context, r *onlinkv1.CheckIPAMRequest) (*onlinkv1.CheckIPAMReply, error) {
	rep := &onlinkv1.CheckIPAMReply{}
	if r.GetRepair() {
		freed, err := s.Pods.Sweep(ctx)
		for _, at := range freed {
			rep.Repaired = append(rep.Repaired, "freed the addresses of "+at.Namespace+"/"+at.Pod+" ("+ipam.Handle{ContainerID: at.ContainerID, IfName: at.IfName}.String()+"), which has ended")
		}
		if err != nil {
			return nil, status.Errorf(codes.Internal, "free addresses of ended pods: %v", err)
		}
	}
	problems, err := s.Check(ctx)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "check: %v", err)
	}
	st := s.Alloc.Stats()
	standing := state.IPAM{Stats: st, Standing: s.Alloc.Standing()}
	if text := standing.StandingText(); text != "" {
		problems = append([]string{text}, problems...)
	}
	rep.Problems = problems
	rep.Assignments, rep.Blocks = number(st.Assignments), number(st.Blocks)
	return rep, nil
}

// ReleaseAddress implements onlinkv1.AdminServer.
func (s *Server) ReleaseAddress(ctx context.Context, r *onlinkv1.ReleaseAddressRequest) (*onlinkv1.ReleaseAddressReply, error) {
	addr, err := netip.ParseAddr(r.GetAddress())
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "address: %v", err)
	}
	as, ok := s.Alloc.ByAddress(addr)
	if !ok {
		return nil, status.Errorf(codes.NotFound, "%v is not in use on this node", addr)
	}
	rep := &onlinkv1.ReleaseAddressReply{Assignment: s.assignment(as, addr)}
	if r.GetForce() {
		_, err = s.Audit.Do(ctx, ipam.AuditReleaseAddress, addr.String(), func() ([]ipam.Block, error) {
			return nil, s.Pods.Evict(ctx, cni.Attachment{
				ContainerID: as.ContainerID, IfName: as.IfName, Netns: as.Netns, Namespace: as.Namespace, Pod: as.Pod, UID: as.UID,
			})
		})
	} else {
		_, err = s.Pods.Sweep(ctx)
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "release %v: %v", addr, err)
	}
	if _, still := s.Alloc.Lookup(as.Handle); still {
		return nil, status.Errorf(codes.FailedPrecondition, "%v belongs to pod %s/%s, whose namespace or interface exists: delete the pod, or cut it off with --force", addr, as.Namespace, as.Pod)
	}
	s.Log.Warn("address released by an operator", "address", addr, "namespace", as.Namespace, "pod", as.Pod, "force", r.GetForce())
	return rep, nil
}

// ReleaseNode implements onlinkv1.AdminServer.
func (s *Server) ReleaseNode(ctx context.Context, r *onlinkv1.ReleaseNodeRequest) (*onlinkv1.ReleaseNodeReply, error) {
	reg, ok := s.Registry.(ipam.ForceReleaser)
	switch {
	case !ok:
		return nil, status.Error(codes.Unimplemented, "this registry cannot release by force")
	case r.GetNode() == s.Node:
		return nil, status.Errorf(codes.InvalidArgument, "%q is this node, which is running", r.GetNode())
	}
	blocks, err := s.Audit.Do(ctx, ipam.AuditReleaseNode, r.GetNode(), func() ([]ipam.Block, error) {
		return reg.ForceRelease(ctx, r.GetNode(), r.GetForce())
	})
	switch {
	case errors.Is(err, ipam.ErrInvalidRequest):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, ipam.ErrRefused):
		return nil, status.Errorf(codes.FailedPrecondition, "%v; --force takes them nevertheless", err)
	case errors.Is(err, ipam.ErrNotPermitted):
		return nil, status.Errorf(codes.PermissionDenied, "%v: run it on the node that serves the registry, or with --server of that node; "+
			"where two nodes split the registry each needs a certificate with the roles node and operator", err)
	case err != nil:
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &onlinkv1.ReleaseNodeReply{Blocks: blocksToWire(blocks)}, nil
}

// TakeOverNode implements onlinkv1.AdminServer.
func (s *Server) TakeOverNode(ctx context.Context, r *onlinkv1.TakeOverNodeRequest) (*onlinkv1.ReleaseNodeReply, error) {
	blocks, err := s.Audit.Do(ctx, ipam.AuditTakeOver, r.GetNode(), func() ([]ipam.Block, error) {
		return s.Alloc.TakeOver(ctx, r.GetNode(), r.GetForce())
	})
	switch {
	case errors.Is(err, ipam.ErrInvalidRequest):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, ipam.ErrRefused):
		return nil, status.Errorf(codes.FailedPrecondition, "%v; --force takes it nevertheless", err)
	case err != nil:
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &onlinkv1.ReleaseNodeReply{Blocks: blocksToWire(blocks)}, nil
}

// backupChunk keeps a message of the backup well below gRPC's limit of 4 MiB.
const backupChunk = 256 << 10

// BackupIPAM implements onlinkv1.AdminServer.
func (s *Server) BackupIPAM(_ *onlinkv1.BackupIPAMRequest, out onlinkv1.Admin_BackupIPAMServer) error {
	err := s.Store.Backup(chunkWriter{out})
	if err != nil {
		return status.Errorf(codes.Internal, "backup: %v", err)
	}
	return nil
}

// chunkWriter sends its input as messages of a stream.
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
