package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"onlink/agent/config"
	"onlink/agent/install"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/diags"
	onlinkv1 "onlink/proto/v1"
	"onlink/rib"
)

// sources makes the parts of one bundle.
type sources struct {
	s     *Server
	text  []byte         // of the configuration file without secrets
	err   error          // why there is none
	found config.Secrets // in the file, which may be another one than that in force
}

func (p process) sources() *sources {
	src := &sources{s: p.s}
	_, text, _, err := p.s.File.Text()
	if err != nil {
		src.err = err
		return src
	}
	src.text, src.found, src.err = config.Shown(text, diags.Removed)
	return src
}

// redactor knows the secrets of the configuration in force and of the file.
func (src *sources) redactor() *diags.Redactor {
	files := append(src.s.Diags.Current().SecretFiles(), src.found.Files...)
	return diags.NewRedactor(append(diags.SecretsIn(files), src.found.Values...)...)
}

// Bounds of the lists in a bundle.
const (
	maxRoutesShown  = 2000
	maxPeersShown   = 100 // in detail
	maxAuditShown   = 200
	maxAddressShown = 5000
)

// parts returns the parts of the bundle: what is cheap and most needed comes first.
func (src *sources) parts() []diags.Part {
	s := src.s
	answer := func(name string, get func(ctx context.Context) (proto.Message, error)) diags.Part {
		return diags.Part{Name: name, Write: func(ctx context.Context, w io.Writer) error {
			m, err := get(ctx)
			if err != nil {
				return err
			}
			return writeJSON(w, m)
		}}
	}
	out := []diags.Part{
		{Name: "versions.txt", Write: src.versions},
		{Name: "agent/log.txt", Write: func(_ context.Context, w io.Writer) error {
			_, err := s.Diags.Log.WriteTo(w)
			return err
		}},
		answer("agent/status.json", func(ctx context.Context) (proto.Message, error) { return s.GetStatus(ctx, nil) }),
		{Name: "agent/config.yaml", Write: src.config},
	}
	out = append(out, diags.Process()...)
	return append(append(out,
		answer("agent/log-levels.json", func(context.Context) (proto.Message, error) { return process{s: s}.logLevels(), nil }),
		answer("agent/peers.json", func(ctx context.Context) (proto.Message, error) { return s.ListPeers(ctx, nil) }),
		diags.Part{Name: "agent/peers-in-detail.json", Write: src.peers},
		diags.Part{Name: "agent/routes.txt", Write: src.routes},
		answer("agent/blocks.json", func(ctx context.Context) (proto.Message, error) {
			return s.ListBlocks(ctx, &onlinkv1.ListBlocksRequest{})
		}),
		answer("agent/registry.json", func(ctx context.Context) (proto.Message, error) {
			return s.ListBlocks(ctx, &onlinkv1.ListBlocksRequest{All: true})
		}),
		answer("agent/pools.json", func(ctx context.Context) (proto.Message, error) { return s.ListPools(ctx, nil) }),
		answer("agent/addresses.json", func(ctx context.Context) (proto.Message, error) {
			rep, err := s.ShowIPAM(ctx, &onlinkv1.ShowIPAMRequest{})
			if rep != nil {
				rep.Assignments = rep.Assignments[:min(len(rep.Assignments), maxAddressShown)]
			}
			return rep, err
		}),
		answer("agent/ipam-check.json", func(ctx context.Context) (proto.Message, error) {
			return s.CheckIPAM(ctx, &onlinkv1.CheckIPAMRequest{})
		}),
		answer("agent/announcements.json", func(ctx context.Context) (proto.Message, error) { return s.ListAnnouncements(ctx, nil) }),
		answer("agent/namespaces.json", func(ctx context.Context) (proto.Message, error) { return s.ListNamespaces(ctx, nil) }),
		answer("agent/audit.json", func(ctx context.Context) (proto.Message, error) {
			rep, err := s.AuditIPAM(ctx, nil)
			if rep != nil {
				rep.Entries = rep.Entries[:min(len(rep.Entries), maxAuditShown)]
			}
			return rep, err
		}),
		diags.Part{Name: "agent/metrics.txt", Write: src.metrics},
	), slices.Concat(src.cni(), diags.Machine())...)
}

// versions writes the versions of the agent and of what it is made of.
func (src *sources) versions(_ context.Context, w io.Writer) error {
	_, err := fmt.Fprintf(w, "onlinkd %s\nengine %s\ngo %s %s/%s\ntime %s\n", src.s.Diags.Version, src.s.Diags.Engine,
		runtime.Version(), runtime.GOOS, runtime.GOARCH, time.Now().UTC().Format(time.RFC3339))
	return err
}

// config writes the file, and why it is not in force.
func (src *sources) config(_ context.Context, w io.Writer) error {
	if src.err != nil {
		return src.err
	}
	_, err := w.Write(src.text)
	if trouble := src.s.File.Trouble(); trouble != nil && err == nil {
		err = fmt.Errorf("the file is not in force: %w", trouble)
	}
	return err
}

// cni returns the parts about the container runtime's folders.
func (src *sources) cni() []diags.Part {
	plan, err := install.Plan(src.s.Diags.Current().CNI)
	if err != nil {
		return []diags.Part{{Name: "cni/configuration.txt", Write: func(context.Context, io.Writer) error { return err }}}
	}
	return []diags.Part{diags.CNI(plan.ConfDir), diags.Folder(plan.ConfDir), diags.Folder(plan.BinDir)}
}

// peers writes the first peers in detail, those without a session first.
func (src *sources) peers(ctx context.Context, w io.Writer) error {
	list := src.s.Speaker.Peers()
	rank := map[bool]int{true: 1}
	slices.SortStableFunc(list, func(a, b bgp.PeerStatus) int {
		return rank[a.State == state.Established] - rank[b.State == state.Established]
	})
	var errs []error
	for _, p := range list[:min(len(list), maxPeersShown)] {
		d, err := src.s.GetPeer(ctx, &onlinkv1.GetPeerRequest{Peer: p.Address.String()})
		if err == nil {
			err = writeJSON(w, d)
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	_, err := fmt.Fprintf(w, "// %d peers in all\n", len(list))
	return errors.Join(append(errs, err)...)
}

// routes counts the decided routes, and writes the first ones and all that failed.
func (src *sources) routes(ctx context.Context, w io.Writer) error {
	counts, shown := map[string]int{}, 0
	err := src.s.Routes(ctx, func(r rib.Route, failed string) {
		wire := routeToWire(r, failed)
		counts[wire.GetKind()]++
		if failed != "" {
			counts["failed"]++
		}
		if shown++; shown <= maxRoutesShown || failed != "" {
			fmt.Fprintf(w, "%s %s %s %v %s\n", r.Prefix, wire.GetKind(), wire.GetReason(), wire.GetHops(), failed)
		}
	})
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "# %d %s\n", counts[kind], kind)
	}
	return err
}

// metrics writes the answer to a scrape.
func (src *sources) metrics(ctx context.Context, w io.Writer) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/metrics", http.NoBody)
	if err != nil {
		return err
	}
	to := &scrape{Writer: w, header: http.Header{}}
	if src.s.Diags.Metrics.ServeHTTP(to, r); to.code >= http.StatusBadRequest {
		return fmt.Errorf("the scrape is answered with the code %d", to.code)
	}
	return nil
}

// scrape is an [http.ResponseWriter] that writes the body alone.
type scrape struct {
	io.Writer

	header http.Header
	code   int
}

// Header implements [http.ResponseWriter].
func (s *scrape) Header() http.Header { return s.header }

// WriteHeader implements [http.ResponseWriter].
func (s *scrape) WriteHeader(code int) { s.code = code }

// writeJSON writes a message as onlinkctl -o json does, but for its spaces.
func writeJSON(w io.Writer, m proto.Message) error {
	text, err := protojson.MarshalOptions{Multiline: true, UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err == nil {
		_, err = w.Write(append(text, '\n'))
	}
	return err
}
