package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"

	"onlink/integration/conf"
)

// podSpaces are pod namespaces, made before anything is measured.
type podSpaces struct {
	dir   string
	paths []string
	all   []*space
}

func newPodSpaces(dir string, n int) (*podSpaces, error) {
	dir, err := os.MkdirTemp(dir, "netns-")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	p := &podSpaces{dir: dir}
	for i := range n {
		s, err := newSpace()
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.all = append(p.all, s)
		path, err := s.pin(dir, strconv.Itoa(i))
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.paths = append(p.paths, path)
	}
	return p, nil
}

func (p *podSpaces) close() error {
	var err error
	for _, path := range p.paths {
		err = errors.Join(err, unix.Unmount(path, unix.MNT_DETACH))
	}
	for _, s := range p.all {
		s.close()
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// chain is a CNI network configuration list, called as containerd calls it.
type chain struct {
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
}

// newChain makes a list of one plugin.
func (r *run) newChain(name string, plugin map[string]any) (*chain, error) {
	text, err := json.Marshal(map[string]any{"cniVersion": "1.0.0", "name": name, "plugins": []any{plugin}})
	if err != nil {
		return nil, fmt.Errorf("write network configuration: %w", err)
	}
	list, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		return nil, fmt.Errorf("read network configuration: %w", err)
	}
	return &chain{libcni.NewCNIConfigWithCacheDir([]string{r.bin}, filepath.Join(r.dir, "cache-"+name), nil), list}, nil
}

func (r *run) onlinkChain() (*chain, error) {
	return r.newChain("onlink", map[string]any{"type": "onlink-cni", "socket": r.cniSocket("near")})
}

func (r *run) referenceChain() (*chain, error) {
	return r.newChain("reference", map[string]any{"type": "ptp", "ipam": map[string]any{
		"type": "host-local", "dataDir": filepath.Join(r.dir, "host-local-data"),
		"ranges": []any{[]any{map[string]any{"subnet": "10.66.0.0/16"}}}, "routes": []any{map[string]any{"dst": "0.0.0.0/0"}},
	}})
}

// call runs ADD, or DEL, for every pod with a number of workers on threads
// inside the namespace, and returns each call's milliseconds.
func (c *chain) call(ctx context.Context, s *space, pods []string, workers int, add bool) (samples, error) {
	took, errs := make(samples, len(pods)), make([]error, workers)
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			errs[w] = s.do(func() error {
				for {
					i := int(next.Add(1)) - 1
					if i >= len(pods) {
						return nil
					}
					begin := time.Now()
					if err := c.one(ctx, pods[i], i, add); err != nil {
						return err
					}
					took[i] = time.Since(begin).Seconds() * 1000
				}
			})
		})
	}
	wg.Wait()
	return took, errors.Join(errs...)
}

func (c *chain) one(ctx context.Context, pod string, i int, add bool) error {
	rt := &libcni.RuntimeConf{
		ContainerID: fmt.Sprintf("%08x%056x", i, i), NetNS: pod, IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", "default"},
			{"K8S_POD_NAME", fmt.Sprintf("web-%d", i)},
			{"K8S_POD_INFRA_CONTAINER_ID", fmt.Sprintf("%08x%056x", i, i)},
		},
	}
	if !add {
		return c.cni.DelNetworkList(ctx, c.list, rt)
	}
	_, err := c.cni.AddNetworkList(ctx, c.list, rt)
	return err
}

// podPool is the agent's pool for its own pods.
func podPool() []conf.Pool {
	return []conf.Pool{{Name: "pods", CIDR: "10.65.0.0/16", Encapsulation: "Never", Tunnel: "none", NATOutgoing: new(false)}}
}

// cniBed is an agent that serves CNI in a namespace.
type cniBed struct {
	pair  *pair
	agent *program
	pods  *podSpaces
}

// newCNIBed starts an agent and waits until it wires pods.
func (r *run) newCNIBed(ctx context.Context, pods int) (*cniBed, error) {
	p, err := newPair()
	if err != nil {
		return nil, err
	}
	b := &cniBed{pair: p}
	if b.agent, err = r.startAgent(p.near, agentConfig{pools: podPool()}); err != nil {
		p.close()
		return nil, err
	}
	if b.pods, err = newPodSpaces(r.dir, pods); err != nil {
		return nil, errors.Join(err, b.close())
	}
	if err := r.serving(ctx, b.agent, p.near); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// serving waits until the agent says that it can wire pods.
func (r *run) serving(ctx context.Context, agent *program, s *space) error {
	c, err := r.onlinkChain()
	if err != nil {
		return err
	}
	c.list.CNIVersion = "1.1.0" // STATUS is new in 1.1.0
	var last error
	err = agent.until(ctx, "agent serves pods", 50*time.Millisecond, 30*time.Second, func() (bool, error) {
		last = s.do(func() error { return c.cni.GetStatusNetworkList(ctx, c.list) })
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}

func (b *cniBed) close() error {
	b.agent.stop()
	var err error
	if b.pods != nil {
		err = b.pods.close()
	}
	b.pair.close()
	return err
}

// timing is what the rounds of one chain and concurrency showed.
type timing struct{ addP50, addP99, delP50, delP99 samples }

func (t *timing) round(ctx context.Context, c *chain, s *space, pods []string, workers int) error {
	add, err := c.call(ctx, s, pods, workers, true)
	if err != nil {
		return fmt.Errorf("ADD: %w", err)
	}
	del, err := c.call(ctx, s, pods, workers, false)
	if err != nil {
		return fmt.Errorf("DEL: %w", err)
	}
	t.addP50, t.addP99 = append(t.addP50, add.median()), append(t.addP99, add.percentile(99))
	t.delP50, t.delP99 = append(t.delP50, del.median()), append(t.delP99, del.percentile(99))
	return nil
}

// chainFigures: ADD and DEL as a container runtime sees them.
func chainFigures(ctx context.Context, r *run) (err error) {
	if err := r.buildPeers(ctx); err != nil {
		return err
	}
	const count = 96
	b, err := r.newCNIBed(ctx, count)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	// Others: the agent may remove a pod's device after its answer to DEL.
	others, err := newPodSpaces(r.dir, count)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, others.close()) }()
	ours, err := r.onlinkChain()
	if err != nil {
		return err
	}
	reference, err := r.referenceChain()
	if err != nil {
		return err
	}
	// The reference has a machine of its own, whose devices no agent follows.
	apart, err := newPair()
	if err != nil {
		return err
	}
	defer apart.close()
	for _, workers := range []int{1, 8, 32} {
		var o, p timing
		err := r.rounds(ctx,
			func(ctx context.Context) error { return o.round(ctx, ours, b.pair.near, b.pods.paths, workers) },
			func(ctx context.Context) error { return p.round(ctx, reference, apart.near, others.paths, workers) })
		if err != nil {
			return err
		}
		against := func(s samples) versus { return versus{name: "ptp + host-local", samples: s} }
		r.report(fmt.Sprintf("cni.add_c%d", workers), "ms", o.addP50, against(p.addP50))
		r.report(fmt.Sprintf("cni.add_c%d_p99", workers), "ms", o.addP99, against(p.addP99))
		r.report(fmt.Sprintf("cni.del_c%d", workers), "ms", o.delP50, against(p.delP50))
		r.report(fmt.Sprintf("cni.del_c%d_p99", workers), "ms", o.delP99, against(p.delP99))
	}
	return nil
}
