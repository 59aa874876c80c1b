package fib

import (
	"fmt"
	"slices"
)

// device is a link by name.
type device struct {
	name  string
	index uint32 // 0: not looked up, or absent
	users int    // gatewayHops on it
	links int    // linkHops on it
	local map[*entry]struct{}
}

// links maps device names to kernel indexes and back; an absent device is
// ErrNoDevice.
type links interface {
	linkIndex(name string) (uint32, error)
	linkName(index uint32) (string, error)
}

// devices are the links that next hops are on, and their indexes in the kernel.
type devices struct {
	kernel  links // nil before Open
	byName  map[string]*device
	byIndex map[uint32]*device // filled by readings of the kernel
	avoid   []string           // names that no route may use
}

func (d *devices) init() {
	d.byName = make(map[string]*device)
	d.byIndex = make(map[uint32]*device)
}

// named returns the device of a name.
func (d *devices) named(name string) *device {
	dev := d.byName[name]
	if dev == nil {
		dev = &device{name: name}
		d.byName[name] = dev
	}
	return dev
}

// indexed returns the device of an index, nil if the index has no name.
func (d *devices) indexed(index uint32) *device {
	dev := d.byIndex[index]
	if dev == nil {
		name, err := d.kernel.linkName(index)
		if err != nil {
			return nil
		}
		dev = d.named(name)
		dev.index = index
		d.byIndex[index] = dev
	}
	return dev
}

// release drops a device without next hops.
func (d *devices) release(dev *device) {
	if dev.users == 0 && dev.links == 0 {
		delete(d.byName, dev.name)
	}
}

// resolve looks up the device's index unless it is known.
func (d *devices) resolve(dev *device) error {
	if dev == nil || dev.index != 0 {
		return nil
	}
	i, err := d.lookUp(dev.name)
	dev.index = i
	return err
}

// lookUp reads the index of a device that routes may use.
func (d *devices) lookUp(name string) (uint32, error) {
	if slices.Contains(d.avoid, name) {
		return 0, fmt.Errorf("device %q: %w", name, ErrAvoid)
	}
	return d.kernel.linkIndex(name)
}

// refresh looks every device's index up again: a recreated one has a new
// index.
func (d *devices) refresh() {
	clear(d.byIndex)
	for _, dev := range d.byName {
		dev.index = 0
		if i, err := d.lookUp(dev.name); err == nil {
			dev.index = i
			d.byIndex[i] = dev
		}
	}
}
