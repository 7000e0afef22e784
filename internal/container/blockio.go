package container

import (
	"fmt"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/config"
	"strata/internal/errdef"
)

// DeviceLimit is a weight, or a rate a second, for one block device of the host.
type DeviceLimit struct {
	Path string // below /dev
	N    uint64
}

// ParseDeviceRate reads docker's "DEVICE:RATE". bytes says that the rate may have a unit.
func ParseDeviceRate(s string, bytes bool) (DeviceLimit, error) {
	unit := ""
	if bytes {
		unit = "[<unit>]. Unit is optional and can be kb, mb, or gb"
	}
	d, number, err := splitDevice(s)
	if err != nil {
		return d, err
	}
	if bytes {
		var n int64
		n, err = config.ParseSize(number)
		d.N = uint64(max(n, 0))
	} else {
		d.N, err = strconv.ParseUint(number, 10, 64)
	}
	if err != nil || d.N == 0 {
		return d, fmt.Errorf("invalid rate for device: %s: the correct format is <device-path>:<number>%s, and the number a positive integer: %w", s, unit, errdef.ErrInvalid)
	}
	return d, nil
}

// ParseDeviceWeight reads docker's "DEVICE:WEIGHT".
func ParseDeviceWeight(s string) (DeviceLimit, error) {
	d, number, err := splitDevice(s)
	if err != nil {
		return d, err
	}
	if d.N, err = strconv.ParseUint(number, 10, 16); err != nil || d.N < 10 || d.N > 1000 {
		return d, fmt.Errorf("invalid weight for device: %s: want a number from 10 to 1000: %w", s, errdef.ErrInvalid)
	}
	return d, nil
}

func splitDevice(s string) (d DeviceLimit, number string, err error) {
	path, number, ok := strings.Cut(s, ":")
	switch {
	case !ok || path == "" || number == "":
		err = fmt.Errorf("bad format: %s: want DEVICE:NUMBER: %w", s, errdef.ErrInvalid)
	case !strings.HasPrefix(path, "/dev/"):
		err = fmt.Errorf("bad format for device path: %s: want a path below /dev: %w", s, errdef.ErrInvalid)
	}
	return DeviceLimit{Path: path}, number, err
}

// number is the kernel's number of the device now.
func (d DeviceLimit) number() (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(d.Path, &st); err != nil {
		return 0, 0, fmt.Errorf("device %s: %w: %w", d.Path, err, errdef.ErrInvalid)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("device %s: it is no block device: %w", d.Path, errdef.ErrInvalid)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}

// blockIO is nil when there are no limits of block I/O.
func (r Resources) blockIO() (*specs.LinuxBlockIO, error) {
	io := &specs.LinuxBlockIO{}
	if r.BlkioWeight != 0 {
		io.Weight = &r.BlkioWeight
	}
	for _, d := range r.BlkioWeightDevice {
		major, minor, err := d.number()
		if err != nil {
			return nil, err
		}
		weight := uint16(d.N)
		w := specs.LinuxWeightDevice{Weight: &weight}
		w.Major, w.Minor = major, minor
		io.WeightDevice = append(io.WeightDevice, w)
	}
	for _, rates := range []struct {
		limits []DeviceLimit
		into   *[]specs.LinuxThrottleDevice
	}{
		{r.DeviceReadBps, &io.ThrottleReadBpsDevice}, {r.DeviceWriteBps, &io.ThrottleWriteBpsDevice},
		{r.DeviceReadIOps, &io.ThrottleReadIOPSDevice}, {r.DeviceWriteIOps, &io.ThrottleWriteIOPSDevice},
	} {
		for _, d := range rates.limits {
			major, minor, err := d.number()
			if err != nil {
				return nil, err
			}
			t := specs.LinuxThrottleDevice{Rate: d.N}
			t.Major, t.Minor = major, minor
			*rates.into = append(*rates.into, t)
		}
	}
	if io.Weight == nil && io.WeightDevice == nil && io.ThrottleReadBpsDevice == nil && io.ThrottleWriteBpsDevice == nil &&
		io.ThrottleReadIOPSDevice == nil && io.ThrottleWriteIOPSDevice == nil {
		return nil, nil
	}
	return io, nil
}
