package container

import (
	"os"
	"path/filepath"
	"testing"
)

func TestParseDeviceLimit(t *testing.T) {
	rate := func(bytes bool) func(string) (DeviceLimit, error) {
		return func(s string) (DeviceLimit, error) { return ParseDeviceRate(s, bytes) }
	}
	for _, c := range []struct {
		parse func(string) (DeviceLimit, error)
		text  string
		want  DeviceLimit // zero: refused
	}{
		{rate(true), "/dev/sda:1mb", DeviceLimit{"/dev/sda", 1 << 20}},
		{rate(true), "/dev/sda:512", DeviceLimit{"/dev/sda", 512}},
		{rate(true), "/dev/sda:-1", DeviceLimit{}},
		{rate(true), "/dev/sda:0", DeviceLimit{}},
		{rate(true), "/dev/sda", DeviceLimit{}},
		{rate(true), "/etc/sda:1mb", DeviceLimit{}},
		{rate(true), ":1mb", DeviceLimit{}},
		{rate(false), "/dev/sda:1000", DeviceLimit{"/dev/sda", 1000}},
		{rate(false), "/dev/sda:1k", DeviceLimit{}},
		{rate(false), "/dev/sda:0", DeviceLimit{}},
		{ParseDeviceWeight, "/dev/sda:10", DeviceLimit{"/dev/sda", 10}},
		{ParseDeviceWeight, "/dev/sda:1000", DeviceLimit{"/dev/sda", 1000}},
		{ParseDeviceWeight, "/dev/sda:9", DeviceLimit{}},
		{ParseDeviceWeight, "/dev/sda:1001", DeviceLimit{}},
	} {
		got, err := c.parse(c.text)
		if (err == nil) != (c.want != DeviceLimit{}) || err == nil && got != c.want {
			t.Errorf("%s: %v, %v", c.text, got, err)
		}
	}
}

func TestBlockIO(t *testing.T) {
	if io, err := (Resources{}).blockIO(); io != nil || err != nil {
		t.Errorf("%v, %v", io, err)
	}
	plain := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{plain, "/dev/null", "/dev/none"} {
		if _, err := (Resources{DeviceReadBps: []DeviceLimit{{path, 1}}}).blockIO(); err == nil {
			t.Errorf("%s passes for a block device", path)
		}
	}
	const loop = "/dev/loop0"
	if _, err := os.Stat(loop); err != nil {
		t.Skip("needs", loop)
	}
	io, err := Resources{
		BlkioWeight: 300, BlkioWeightDevice: []DeviceLimit{{loop, 200}}, DeviceReadBps: []DeviceLimit{{loop, 1}}, DeviceWriteBps: []DeviceLimit{{loop, 2}},
		DeviceReadIOps: []DeviceLimit{{loop, 3}}, DeviceWriteIOps: []DeviceLimit{{loop, 4}},
	}.blockIO()
	if err != nil {
		t.Fatal(err)
	}
	if *io.Weight != 300 || *io.WeightDevice[0].Weight != 200 || io.WeightDevice[0].Major != 7 || io.ThrottleReadBpsDevice[0].Rate != 1 ||
		io.ThrottleWriteBpsDevice[0].Rate != 2 || io.ThrottleReadIOPSDevice[0].Rate != 3 || io.ThrottleWriteIOPSDevice[0].Rate != 4 {
		t.Errorf("%+v", io)
	}
}
