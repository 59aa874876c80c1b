package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// busyTime bounds how long a cgroup may be busy with the end of its processes.
const busyTime = time.Minute

// clusterCgroup is the parent of the cgroups of a cluster's nodes.
func clusterCgroup(name string) string { return filepath.Join(allCgroups, name) }

// allCgroups is the parent of the cgroups of all clusters.
const allCgroups = "/onlink-kube"

// cgroup is the parent of the node's pods, kubelet's cgroupRoot.
func (n *Node) cgroup() string { return filepath.Join(clusterCgroup(n.cluster.Options.Name), n.Name) }

// daemonCgroup is that of the node's own daemons, beside the pods' as system.slice is
// on a machine with systemd. Without it each of their threads would have the weight of
// all pods of all nodes together, and an agent in a pod would starve where a plugin that
// containerd starts does not.
func (n *Node) daemonCgroup() string { return filepath.Join(n.cgroup(), "system") }

// weight is that of all nodes together, beside the programs of the control plane and the
// test, which have 1024 a thread and on a real cluster are other machines'.
const weight = 8 * 1024

// weigh gives a cgroup a weight, in the shares of v1.
func weigh(name string, shares int) error {
	roots, err := hierarchies()
	if err != nil {
		return fmt.Errorf("find cgroups: %w", err)
	}
	for _, root := range roots {
		// 100 of v2 are 1024 of v1.
		for file, value := range map[string]int{"cpu.shares": shares, "cpu.weight": shares * 100 / 1024} {
			if err := set(filepath.Join(root, name, file), value); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("weigh cgroup: %w", err)
			}
		}
	}
	return nil
}

// join moves a process, and what it starts from then on, into a cgroup.
func join(name string, pid int) error {
	roots, err := hierarchies()
	if err != nil {
		return fmt.Errorf("find cgroups: %w", err)
	}
	for _, root := range roots {
		if err := set(filepath.Join(root, name, "cgroup.procs"), pid); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

// set writes a number to a file of a cgroup that is there.
func set(file string, value int) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(value))
	return errors.Join(err, f.Close())
}

// hierarchies returns the mount points of the cgroup hierarchies: one of cgroup
// v2, or those of v1, among which v2 may be one without controllers.
func hierarchies() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return []string{cgroupRoot}, nil
	}
	procs, err := filepath.Glob(filepath.Join(cgroupRoot, "*", "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var list []string
	seen := map[string]bool{}
	for _, file := range procs {
		dir, err := filepath.EvalSymlinks(filepath.Dir(file)) // cpu may be a link to cpu,cpuacct
		if err != nil {
			return nil, err
		}
		if !seen[dir] {
			seen[dir] = true
			list = append(list, dir)
		}
	}
	return list, nil
}

// makeCgroup makes a cgroup in every hierarchy, with all controllers.
func makeCgroup(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return fmt.Errorf("find cgroups: %w", err)
	}
	for _, root := range roots {
		dir := root
		for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
			parent := dir
			dir = filepath.Join(dir, part)
			if err := delegate(parent); err != nil {
				return fmt.Errorf("make cgroup %s: %w", name, err)
			}
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make cgroup: %w", err)
			}
			if err := inheritCPUs(parent, dir); err != nil {
				return fmt.Errorf("make cgroup %s: %w", name, err)
			}
		}
	}
	return nil
}

// delegate lets the children of a v2 cgroup have its controllers.
func delegate(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // v1
	}
	if err != nil {
		return err
	}
	for controller := range strings.FieldsSeq(string(text)) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// inheritCPUs fills the CPUs and memory nodes of a new cpuset of v1: an empty one
// takes no process.
func inheritCPUs(parent, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		text, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(text)) == "" {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), text, 0o644)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeCgroups removes a cgroup and all below it from every hierarchy. Those whose
// processes were just killed are busy for a moment.
func removeCgroups(name string) error {
	end := time.Now().Add(busyTime)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := removeCgroup(name)
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(end) {
			return err
		}
		<-tick.C
	}
}

func removeCgroup(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return fmt.Errorf("find cgroups: %w", err)
	}
	for _, root := range roots {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(root, name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("list cgroup %s: %w", name, err)
		}
		for _, dir := range slices.Backward(dirs) {
			if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
		}
		_ = syscall.Rmdir(filepath.Join(root, allCgroups)) // not while another cluster has one in it
	}
	return nil
}
