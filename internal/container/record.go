package container

import (
	"time"

	"github.com/opencontainers/go-digest"

	"strata/internal/network"
	"strata/internal/oci"
)

// Record is what is known of one container. The first part is fixed at creation; State is its supervisor's.
type Record struct {
	ID      string        // 64 hex digits
	Name    string        // without docker's leading slash
	Created time.Time     // UTC
	Image   digest.Digest // the image's id
	// ImageName is the name that the user gave.
	ImageName string
	// Layers is the image's stack, base first.
	Layers []oci.DiffID
	Config Config
	Host   HostConfig
	// Volumes are the container's volumes: what it asked for, and what the image wants.
	Volumes []Volume `json:",omitempty"`
	// Stubs are the container paths of mount points that were made because the image lacks them. They are no change of
	// the container's: a commit leaves them out.
	Stubs []string `json:",omitempty"`
	// Halted says that somebody asked the container to stop: its restart policy rests until somebody starts it.
	Halted bool `json:",omitempty"`
	State  State
}

// Config is what runs in the container: the image's config merged with what the user asked for.
// The JSON form is docker's Config object.
type Config struct {
	Hostname     string              `json:"Hostname"`
	Domainname   string              `json:"Domainname"`
	User         string              `json:"User"`
	AttachStdin  bool                `json:"AttachStdin"`
	AttachStdout bool                `json:"AttachStdout"`
	AttachStderr bool                `json:"AttachStderr"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Tty          bool                `json:"Tty"`
	OpenStdin    bool                `json:"OpenStdin"`
	StdinOnce    bool                `json:"StdinOnce"`
	Env          []string            `json:"Env"`
	Cmd          []string            `json:"Cmd"`
	Healthcheck  *oci.Healthcheck    `json:"Healthcheck,omitempty"`
	Image        string              `json:"Image"`
	Volumes      map[string]struct{} `json:"Volumes"`
	WorkingDir   string              `json:"WorkingDir"`
	Entrypoint   []string            `json:"Entrypoint"`
	OnBuild      []string            `json:"OnBuild"`
	Labels       map[string]string   `json:"Labels"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	// MacAddress is that of the first network's interface.
	MacAddress string `json:"MacAddress,omitempty"`
	// StopTimeout is in seconds; nil means 10, negative waits for ever.
	StopTimeout *int     `json:"StopTimeout,omitempty"`
	Shell       []string `json:"Shell,omitempty"`
}

// Runtime is an OCI runtime by the name that a user called it.
type Runtime struct{ Name, Path string }

// HostConfig is what of the host the container sees and uses.
type HostConfig struct {
	Binds []Bind `json:",omitempty"`
	// Volumes are those asked for; [Record.Volumes] has them by name, with the image's.
	Volumes []Volume     `json:",omitempty"`
	Images  []ImageMount `json:",omitempty"`
	// VolumesFrom are the containers whose volumes and binds were taken over, as they were named.
	VolumesFrom []string `json:",omitempty"`
	// Tmpfs maps a container path to mount options ("size=64m,mode=1777").
	Tmpfs          map[string]string `json:",omitempty"`
	ReadonlyRootfs bool
	// Network is "host", "none", "container:ID", or the name of the first of Networks.
	Network  string
	Networks []network.Attachment `json:",omitempty"`
	// DNS, DNSSearch and DNSOptions take the place of what this machine's resolv.conf says; the search domain "." means none.
	DNS        []string `json:",omitempty"`
	DNSSearch  []string `json:",omitempty"`
	DNSOptions []string `json:",omitempty"`
	// Publish are the ports to publish, PublishAll adds every exposed one.
	Publish    []network.Publish `json:",omitempty"`
	PublishAll bool              `json:",omitempty"`
	Init       bool
	AutoRemove bool
	Privileged bool
	CapAdd     []string `json:",omitempty"`
	CapDrop    []string `json:",omitempty"`
	ExtraHosts []string `json:",omitempty"` // "name:address"
	ShmSize    int64    `json:",omitempty"` // bytes; 0 means 64 MiB
	Log        LogConfig
	Resources  Resources     `json:",omitzero"`
	Access     Access        `json:",omitzero"`
	Restart    RestartPolicy `json:",omitzero"`
	// Runtime is the OCI runtime that the user named and where it is; the zero Runtime is the store's own.
	Runtime Runtime `json:",omitzero"`
	// ContainerIDFile is where the user wanted the id written.
	ContainerIDFile string `json:",omitempty"`
	// ConsoleWidth and ConsoleHeight are the terminal's size at the start; 0 is unknown.
	ConsoleWidth, ConsoleHeight uint16 `json:",omitempty"`
}

// Bind shows a host path in the container.
type Bind struct {
	Source      string // absolute host path
	Destination string // absolute container path
	ReadOnly    bool
	// CreateSource makes a missing source a directory, as docker's -v does and --mount does not.
	CreateSource bool
	// Propagation of mounts made later: "rprivate" when empty. NonRecursive leaves out what is mounted below the source.
	Propagation  string `json:",omitempty"`
	NonRecursive bool   `json:",omitempty"`
	// Idmap shows the owners as those of the container's user namespace: what is root's on this machine is its root's.
	Idmap bool `json:",omitempty"`
}

// Volume is a volume at a container path.
type Volume struct {
	Name        string // 64 hex digits of an anonymous one
	Destination string
	// Named: somebody gave it the name, or another container has it too, and so it stays when this container goes.
	Named    bool   `json:",omitempty"`
	ReadOnly bool   `json:",omitempty"`
	NoCopy   bool   `json:",omitempty"` // the image's content is not copied in
	Subpath  string `json:",omitempty"` // of the volume: what is shown
	// New is what the volume is made with if it is not there.
	New VolumeOptions `json:",omitzero"`
}

// Status is a container's state in docker's words.
type Status string

// The states of a container.
const (
	Created Status = "created"
	Running Status = "running"
	Paused  Status = "paused"
	Exited  Status = "exited"
	// Restarting: it has ended, and its shim is about to start it again.
	Restarting Status = "restarting"
	Dead       Status = "dead"
)

// State is the part of a record that changes.
type State struct {
	Status Status
	// Pid of the container's first process, which counts only if it was started at PidStart (clock ticks, field 22 of
	// /proc/<pid>/stat) in the boot BootID. 0 when not running.
	Pid      int    `json:",omitempty"`
	PidStart uint64 `json:",omitempty"`
	BootID   string `json:",omitempty"`
	// Supervisor is the pid of the process that holds the container's lock, Shim whether it listens on the control socket.
	Supervisor int  `json:",omitempty"`
	Shim       bool `json:",omitempty"`
	// Ports are where the published ports of the running container are reached.
	Ports     []network.Binding `json:",omitempty"`
	ExitCode  int
	Error     string `json:",omitempty"`
	OOMKilled bool   `json:",omitempty"`
	// RestartCount is how often the restart policy has started it since somebody did.
	RestartCount int     `json:",omitempty"`
	Health       *Health `json:",omitempty"` // nil without a check
	StartedAt    time.Time
	FinishedAt   time.Time
}

// Alive reports whether the container has a process.
func (s State) Alive() bool { return s.Status == Running || s.Status == Paused }

// Supervised reports whether the container has a process, or is about to get one again.
func (s State) Supervised() bool { return s.Alive() || s.Status == Restarting }

// ShortID is docker's twelve digits of an id.
func ShortID(id string) string { return id[:min(12, len(id))] }
