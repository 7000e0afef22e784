package cli

import (
	"cmp"
	"fmt"
	"maps"

	"strata/internal/cli/render"
	"strata/internal/container"
	"strata/internal/runtime"
)

func hostConfigDocument(rec container.Record) render.HostConfig {
	h := rec.Host
	doc := render.HostConfig{
		LogConfig: render.LogConfig{Type: "json-file", Config: map[string]string{}}, NetworkMode: h.Network, AutoRemove: h.AutoRemove,
		CapAdd: h.CapAdd, CapDrop: h.CapDrop, ExtraHosts: h.ExtraHosts, Privileged: h.Privileged, ContainerIDFile: h.ContainerIDFile,
		ReadonlyRootfs: h.ReadonlyRootfs, Tmpfs: h.Tmpfs, ShmSize: cmp.Or(h.ShmSize, 64<<20), Runtime: cmp.Or(h.Runtime.Name, "strata-runc"),
		RestartPolicy: render.RestartPolicy{Name: cmp.Or(h.Restart.Name, "no"), MaximumRetryCount: h.Restart.MaxRetries},
	}
	doc.DNS, doc.DNSSearch, doc.DNSOptions = h.DNS, h.DNSSearch, h.DNSOptions
	doc.VolumesFrom = h.VolumesFrom
	accessDocument(&doc, h.Access)
	doc.MaskedPaths, doc.ReadonlyPaths = h.Access.Hidden(h.Privileged)
	r := h.Resources
	doc.CPUShares, doc.Memory, doc.NanoCPUs, doc.MemorySwap, doc.MemoryReservation = r.CPUShares, r.Memory, r.NanoCPUs, r.MemorySwap, r.MemoryReservation
	doc.CPUPeriod, doc.CPUQuota, doc.CpusetCpus, doc.CpusetMems = r.CPUPeriod, r.CPUQuota, r.CpusetCpus, r.CpusetMems
	doc.PidsLimit, doc.BlkioWeight = r.PidsLimit, r.BlkioWeight
	blockDocument(&doc, r)
	if h.Log.Driver != "" {
		doc.LogConfig.Type = h.Log.Driver
	}
	maps.Copy(doc.LogConfig.Config, h.Log.Options)
	if h.Init {
		doc.Init = &h.Init
	}
	doc.PortBindings, doc.PublishAllPorts = askedPorts(h), h.PublishAll
	for _, b := range h.Binds {
		doc.Binds = append(doc.Binds, bindSpec(b.Source, b.Destination, bindMode(b)))
	}
	for _, v := range h.Volumes {
		if v.Name != "" && v.Subpath == "" { // -v cannot say of which directory of a volume
			doc.Binds = append(doc.Binds, bindSpec(v.Name, v.Destination, volumeMode(v)))
		}
	}
	doc.DNS, doc.DNSSearch, doc.DNSOptions = list(doc.DNS), list(doc.DNSSearch), list(doc.DNSOptions)
	doc.Devices, doc.Ulimits, doc.BlkioWeightDevice = list(doc.Devices), list(doc.Ulimits), list(doc.BlkioWeightDevice)
	doc.BlkioDeviceReadBps, doc.BlkioDeviceWriteBps = list(doc.BlkioDeviceReadBps), list(doc.BlkioDeviceWriteBps)
	doc.BlkioDeviceReadIOps, doc.BlkioDeviceWriteIOps = list(doc.BlkioDeviceReadIOps), list(doc.BlkioDeviceWriteIOps)
	return doc
}

// list is the empty list in the place of none, where docker's document has that: who goes through it need not ask.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

// bindSpec is what -v takes.
func bindSpec(source, destination, mode string) string {
	if mode != "" {
		mode = ":" + mode
	}
	return source + ":" + destination + mode
}

// blockDocument tells of the limits for single devices, and of those that only version 1 of control groups has.
func blockDocument(doc *render.HostConfig, r container.Resources) {
	for _, d := range r.BlkioWeightDevice {
		doc.BlkioWeightDevice = append(doc.BlkioWeightDevice, render.WeightDevice{Path: d.Path, Weight: d.N})
	}
	for _, rates := range []struct {
		limits []container.DeviceLimit
		into   *[]render.ThrottleDevice
	}{
		{r.DeviceReadBps, &doc.BlkioDeviceReadBps}, {r.DeviceWriteBps, &doc.BlkioDeviceWriteBps},
		{r.DeviceReadIOps, &doc.BlkioDeviceReadIOps}, {r.DeviceWriteIOps, &doc.BlkioDeviceWriteIOps},
	} {
		for _, d := range rates.limits {
			*rates.into = append(*rates.into, render.ThrottleDevice{Path: d.Path, Rate: d.N})
		}
	}
	doc.CPURealtimePeriod, doc.CPURealtimeRuntime, doc.MemorySwappiness = r.CPURealtimePeriod, r.CPURealtimeRuntime, r.MemorySwappiness
	if r.OOMKillDisable {
		doc.OomKillDisable = &r.OOMKillDisable
	}
}

// accessDocument tells what of the machine a container reaches. Of secrets nothing is told.
func accessDocument(doc *render.HostConfig, a container.Access) {
	doc.GroupAdd, doc.SecurityOpt, doc.Sysctls, doc.OomScoreAdj, doc.Annotations = a.GroupAdd, a.SecurityOpt, a.Sysctls, a.OOMScoreAdj, a.Annotations
	doc.IpcMode, doc.PidMode, doc.UTSMode, doc.UsernsMode, doc.CgroupParent = cmp.Or(a.IPC, "private"), a.PID, a.UTS, a.Userns, a.CgroupParent
	if ids := a.IDs; ids != nil {
		line := func(first uint32) []string { return []string{fmt.Sprintf("0:%d:%d", first, ids.Count)} }
		doc.IDMappings = &render.IDMappings{UIDMap: line(ids.UID), GIDMap: line(ids.GID)}
	}
	doc.CgroupnsMode = cmp.Or(a.Cgroupns, defaultCgroupns())
	doc.DeviceCgroupRules = a.DeviceRules
	for _, d := range a.Devices {
		doc.Devices = append(doc.Devices, render.DeviceMapping{PathOnHost: d.Path, PathInContainer: d.Container, CgroupPermissions: d.Permissions})
	}
	if len(a.CDI) > 0 {
		doc.DeviceRequests = []render.DeviceRequest{{Driver: "cdi", DeviceIDs: a.CDI}}
	}
	for _, u := range a.Ulimits {
		doc.Ulimits = append(doc.Ulimits, render.Ulimit{Name: u.Name, Hard: u.Hard, Soft: u.Soft})
	}
}

// defaultCgroupns is docker's: with version 1 of control groups the machine's namespace, which no container can leave its place in.
func defaultCgroupns() string {
	if runtime.UnifiedCgroups() {
		return "private"
	}
	return "host"
}

// healthDocument is nil for a container without a check.
func healthDocument(h *container.Health) *render.Health {
	if h == nil {
		return nil
	}
	doc := &render.Health{Status: h.Status, FailingStreak: h.FailingStreak, Log: []render.HealthResult{}}
	for _, r := range h.Log {
		doc.Log = append(doc.Log, render.HealthResult{Start: render.Time(r.Start), End: render.Time(r.End), ExitCode: r.ExitCode, Output: r.Output})
	}
	return doc
}
