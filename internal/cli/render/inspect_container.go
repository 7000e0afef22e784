package render

import (
	"time"

	"strata/internal/oci"
)

// ContainerInspect is the document of `container inspect`. Times are RFC 3339 text; see [Time].
type ContainerInspect struct {
	ID              string `json:"Id"`
	Created         string
	Path            string
	Args            []string
	State           ContainerInspectState
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	HostConfig      HostConfig
	GraphDriver     GraphDriver
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      *int64 `json:",omitempty"`
	Mounts          []MountPoint
	Config          ContainerConfig
	NetworkSettings NetworkSettings
}

// Time is t as the documents write it. A time that never came is the year 1, as docker says it.
func Time(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// ContainerInspectState is the state of a container and how its last run ended.
type ContainerInspectState struct {
	Status     string
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  string
	FinishedAt string
	Health     *Health `json:",omitempty"`
}

// Health is what the health check of a container found.
type Health struct {
	Status        string
	FailingStreak int
	Log           []HealthResult
}

// HealthResult is one run of a health check.
type HealthResult struct {
	Start    string
	End      string
	ExitCode int
	Output   string
}

// IDMappings are podman's: "0:100000:65536" has the ids from 0 on be those from 100000 on outside.
type IDMappings struct {
	UIDMap []string `json:"UidMap"`
	GIDMap []string `json:"GidMap"`
}

// HostConfig is what a container was given of this machine.
type HostConfig struct {
	Binds             []string
	ContainerIDFile   string
	Links             []string // never any, as the next two: templates name them
	VolumeDriver      string
	Isolation         string
	Annotations       map[string]string `json:",omitempty"`
	CgroupParent      string
	Cgroup            string
	Devices           []DeviceMapping
	DeviceCgroupRules []string
	DeviceRequests    []DeviceRequest
	OomScoreAdj       int
	Sysctls           map[string]string `json:",omitempty"`
	VolumesFrom       []string
	LogConfig         LogConfig
	NetworkMode       string
	PortBindings      map[string][]PortBinding
	RestartPolicy     RestartPolicy
	AutoRemove        bool
	CapAdd            []string
	CapDrop           []string
	CgroupnsMode      string
	DNS               []string `json:"Dns"`
	DNSOptions        []string `json:"DnsOptions"`
	DNSSearch         []string `json:"DnsSearch"`
	ExtraHosts        []string
	GroupAdd          []string
	IpcMode           string
	PidMode           string
	Privileged        bool
	PublishAllPorts   bool
	ReadonlyRootfs    bool
	SecurityOpt       []string
	Tmpfs             map[string]string `json:",omitempty"`
	UTSMode           string
	UsernsMode        string
	IDMappings        *IDMappings `json:",omitempty"`
	ShmSize           int64
	Runtime           string
	CPUShares         int64 `json:"CpuShares"`
	Memory            int64
	NanoCPUs          int64 `json:"NanoCpus"`
	MemorySwap        int64
	PidsLimit         *int64
	Ulimits           []Ulimit
	MaskedPaths       []string
	ReadonlyPaths     []string
	Init              *bool `json:",omitempty"`

	BlkioWeight       uint16
	CPUPeriod         int64 `json:"CpuPeriod"`
	CPUQuota          int64 `json:"CpuQuota"`
	CpusetCpus        string
	CpusetMems        string
	MemoryReservation int64

	BlkioWeightDevice    []WeightDevice
	BlkioDeviceReadBps   []ThrottleDevice
	BlkioDeviceWriteBps  []ThrottleDevice
	BlkioDeviceReadIOps  []ThrottleDevice
	BlkioDeviceWriteIOps []ThrottleDevice
	CPURealtimePeriod    int64 `json:"CpuRealtimePeriod"`
	CPURealtimeRuntime   int64 `json:"CpuRealtimeRuntime"`
	MemorySwappiness     *int64
	OomKillDisable       *bool
}

// WeightDevice is a weight of block I/O for one device, ThrottleDevice a rate.
type WeightDevice struct {
	Path   string
	Weight uint64
}

// ThrottleDevice is a rate of block I/O for one device.
type ThrottleDevice struct {
	Path string
	Rate uint64
}

// LogConfig says how a container's output is kept.
type LogConfig struct {
	Type   string
	Config map[string]string
}

// PortBinding is where a port of a container is reached on this machine.
type PortBinding struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// DeviceMapping is a device of the host in a container.
type DeviceMapping struct{ PathOnHost, PathInContainer, CgroupPermissions string }

// DeviceRequest are devices by the names of the Container Device Interface.
type DeviceRequest struct {
	Driver    string
	DeviceIDs []string
}

// RestartPolicy says when a container that ended is started again.
type RestartPolicy struct {
	Name              string
	MaximumRetryCount int
}

// Ulimit is a resource limit of a container's processes.
type Ulimit struct {
	Name string
	Hard int64
	Soft int64
}

// MountPoint is a directory or file that a container sees from elsewhere.
type MountPoint struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

// ContainerConfig is what a container was made to run.
type ContainerConfig struct {
	Hostname     string
	Domainname   string
	User         string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Env          []string
	Cmd          []string
	Healthcheck  *oci.Healthcheck `json:",omitempty"`
	Image        string
	MacAddress   string `json:",omitempty"`
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	OnBuild      []string
	Labels       map[string]string
	StopSignal   string   `json:",omitempty"`
	StopTimeout  *int     `json:",omitempty"`
	Shell        []string `json:",omitempty"`
}

// NetworkSettings is how a container is connected.
type NetworkSettings struct {
	SandboxID  string
	SandboxKey string
	Ports      map[string][]PortBinding
	Networks   map[string]*EndpointSettings

	// What follows is of the default network, and empty where the container is in others alone, as docker's.
	EndpointID          string
	Gateway             string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	MacAddress          string

	// Never set, here and in docker; templates name them.
	Bridge                 string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
}

// EndpointAddresses are the addresses that a container asked for.
type EndpointAddresses struct {
	IPv4Address  string   `json:",omitempty"`
	IPv6Address  string   `json:",omitempty"`
	LinkLocalIPs []string `json:",omitempty"`
}

// EndpointSettings is a container's place in one network.
type EndpointSettings struct {
	IPAMConfig          *EndpointAddresses
	Links               []string          // never any
	DriverOpts          map[string]string // never any
	Aliases             []string
	NetworkID           string
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	MacAddress          string
	DNSNames            []string
}
