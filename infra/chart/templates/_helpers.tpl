{{/* Begins every name: short enough for what is put behind it. */}}
{{- define "forebay.fullname" -}}
{{- $name := .Values.fullnameOverride | default .Release.Name -}}
{{- if gt (len $name) 30 -}}
{{- printf "%s-%s" (trunc 21 $name | trimSuffix "-") (sha256sum $name | trunc 8) -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}

{{/* Labels by which a component's pods are found. Takes root and component. */}}
{{- define "forebay.selector" -}}
app.kubernetes.io/name: forebay
app.kubernetes.io/instance: {{ .root.Release.Name | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "forebay.labels" -}}
{{ include "forebay.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "forebay.serviceAccount" -}}
{{- $named := .Values.serviceAccount.name -}}
{{- if .Values.serviceAccount.create -}}
{{- $named | default (include "forebay.fullname" .) -}}
{{- else -}}
{{- $named | default "default" -}}
{{- end -}}
{{- end -}}

{{/* Rules over several values, which a schema can't say. */}}
{{- define "forebay.check" -}}
{{- $v := .Values -}}
{{- if not $v.image.repository -}}
{{- fail "image.repository: name an image with `forebay` in it; the project publishes none (docs/kubernetes.md says how to make one)." -}}
{{- end -}}
{{- if not (trim $v.models) -}}
{{- fail "models: give the text of models.toml: --set-file models=models.toml" -}}
{{- end -}}
{{- if not (or $v.redis.url $v.redis.existingSecret.name) -}}
{{- fail "redis: say where Redis is: redis.url, or redis.existingSecret.name, a Secret with its URL." -}}
{{- end -}}
{{- if and $v.redis.url $v.redis.existingSecret.name -}}
{{- fail "redis: redis.url and redis.existingSecret.name are both given; leave one out." -}}
{{- end -}}
{{- if and $v.redis.brokerUrl $v.redis.existingSecret.name -}}
{{- fail "redis.brokerUrl: with redis.existingSecret it is an entry of that Secret: redis.existingSecret.broker names its key." -}}
{{- end -}}
{{- if and (eq $v.gateway.auth "none") (not $v.gateway.allowAnonymous) -}}
{{- fail "gateway.auth: without keys anybody who reaches a gateway could use it. Ask for keys (gateway.auth: keys), or let anybody in (gateway.allowAnonymous: true)." -}}
{{- end -}}
{{- if and (eq $v.gateway.auth "keys") (or (and $v.keda.enabled (not $v.keda.push)) $v.serviceMonitor.enabled) (not $v.gateway.keySecret.name) -}}
{{- fail "gateway.keySecret.name: KEDA and Prometheus need an API key: make one (`forebay keys create --scopes dashboard`), put it in a Secret, and name that. With keda.push KEDA needs none." -}}
{{- end -}}
{{- if and $v.gateway.grpc.enabled (eq (int $v.gateway.grpc.port) (int $v.gateway.port)) -}}
{{- fail "gateway.grpc.port: must be another than gateway.port." -}}
{{- end -}}
{{- if and $v.home.existingClaim $v.home.artifactsClaim -}}
{{- fail "home: existingClaim has the artifacts, too; leave artifactsClaim out." -}}
{{- end -}}
{{- if and $v.gateway.ingress.enabled (not $v.gateway.ingress.host) -}}
{{- fail "gateway.ingress.host: say under which name the gateways are reached." -}}
{{- end -}}
{{- $served := list -}}
{{- range (include "forebay.served" . | fromJson).list -}}
{{- $served = append $served .name -}}
{{- end -}}
{{- range $name, $ignored := $v.workers.models -}}
{{- if not (has $name $served) -}}
{{- fail (printf "workers.models.%s: models.toml has no such model with workers. It has: %s." $name (join ", " $served)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
What has workers, as the catalog's `wanted` says: every model's own table, and versions that get
requests or copies. {"list": [{"name": "minilm@v2", "slug": "minilm-v2-1a2b3c4d", "spec": {…}}]}
*/}}
{{- define "forebay.served" -}}
{{- $catalog := fromToml .Values.models -}}
{{- if hasKey $catalog "Error" -}}
{{- fail (printf "models: not valid TOML: %s" $catalog.Error) -}}
{{- end -}}
{{- if not $catalog.models -}}
{{- fail "models: names no model: add a [models.NAME] table." -}}
{{- end -}}
{{- $found := list -}}
{{- range $name := keys $catalog.models | sortAlpha -}}
{{- $own := get $catalog.models $name -}}
{{- $model := omit $own "versions" -}}
{{- $found = append $found (dict "name" $name "spec" $model) -}}
{{- range $version := keys ($own.versions | default dict) | sortAlpha -}}
{{- $told := get $own.versions $version -}}
{{- if or $told.weight $told.shadow -}}
{{- $spec := deepCopy $model -}}
{{- /* Of tables in both, field by field, and no deeper. */ -}}
{{- range $field, $value := omit $told "weight" "shadow" "sample" -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $spec $field)) -}}
{{- range $inner, $one := $value -}}
{{- $_ := set (get $spec $field) $inner $one -}}
{{- end -}}
{{- else -}}
{{- $_ := set $spec $field $value -}}
{{- end -}}
{{- end -}}
{{- $found = append $found (dict "name" (printf "%s@%s" $name $version) "spec" $spec) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $found -}}
{{- $plain := regexReplaceAll "[^a-z0-9-]" .name "-" -}}
{{- $slug := $plain -}}
{{- if or (ne $plain .name) (gt (len $plain) 25) (hasSuffix "-" $plain) -}}
{{- $slug = printf "%s-%s" (trunc 16 $plain | trimAll "-") (sha256sum .name | trunc 8) -}}
{{- end -}}
{{- $_ := set . "slug" $slug -}}
{{- end -}}
{{- toJson (dict "list" $found) -}}
{{- end -}}

{{/* Whether there is a model whose workers come and go. */}}
{{- define "forebay.elastic" -}}
{{- if .Values.keda.enabled }}
{{- range $served := (include "forebay.served" . | fromJson).list }}
{{- $replicas := $served.spec.replicas | default dict }}
{{- $min := 1 }}
{{- if hasKey $replicas "min" }}{{ $min = int $replicas.min }}{{ end }}
{{- if ne $min (int ($replicas.max | default (max $min 1))) }}true{{ end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* How many GPUs a worker of this model has. Takes root, served and told (of workers.models). */}}
{{- define "forebay.gpus" -}}
{{- $spec := .served.spec -}}
{{- $gpus := 0 -}}
{{- if eq ($spec.backend | default "") "vllm" -}}
{{- $vllm := $spec.vllm | default dict -}}
{{- $gpus = mul (int ($vllm.tensor_parallel_size | default 1)) (int ($vllm.pipeline_parallel_size | default 1)) -}}
{{- else if hasPrefix "cuda" ($spec.device | default "") -}}
{{- $gpus = 1 -}}
{{- else -}}
{{- range ($spec.onnx | default dict).providers -}}
{{- if has . (list "cuda" "tensorrt" "CUDAExecutionProvider" "TensorrtExecutionProvider") -}}
{{- $gpus = 1 -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey .told "gpus" -}}
{{- $gpus = int .told.gpus -}}
{{- end -}}
{{- $number := trimPrefix "cuda:" ($spec.device | default "") -}}
{{- if and (hasPrefix "cuda:" ($spec.device | default "")) (ge (int $number) (int $gpus)) -}}
{{- fail (printf "models: %s says device = %q; its pod has %d, counted from 0: say \"cuda\", or workers.models.%s.gpus." .served.name $spec.device (int $gpus) .served.name) -}}
{{- end -}}
{{- $gpus -}}
{{- end -}}

{{/* A value as a variable: whole numbers without an exponent. */}}
{{- define "forebay.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{- define "forebay.grace" -}}
{{- add (int (ceil (float64 (.Values.settings.drain_s | default 30)))) 10 -}}
{{- end -}}

{{/*
The environment of a container. Takes root, component (whose Redis it is: gateway, worker, pipeline,
background) and extra (its own extraEnv).
*/}}
{{- define "forebay.env" -}}
{{- $v := .root.Values -}}
- name: FOREBAY_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ $v.redis.existingSecret.name | default (printf "%s-redis" (include "forebay.fullname" .root)) }}
      key: {{ if $v.redis.url }}url{{ else }}{{ get $v.redis.existingSecret .component }}{{ end }}
{{- if and (eq .component "background") (or $v.redis.brokerUrl $v.redis.existingSecret.broker) }}
- name: FOREBAY_BROKER_URL
  valueFrom:
    secretKeyRef:
      name: {{ $v.redis.existingSecret.name | default (printf "%s-redis" (include "forebay.fullname" .root)) }}
      key: {{ if $v.redis.brokerUrl }}broker-url{{ else }}{{ $v.redis.existingSecret.broker }}{{ end }}
{{- end }}
- name: FOREBAY_HOME
  value: {{ $v.home.path | quote }}
- name: FOREBAY_MODELS_FILE
  value: /etc/forebay/models.toml
{{- range $name, $value := $v.settings }}
- name: FOREBAY_{{ upper $name }}
  value: {{ include "forebay.text" $value | quote }}
{{- end }}
# Whatever a library keeps for itself goes where it can be written.
- name: HOME
  value: /tmp
{{- with .own }}
{{ . }}
{{- end }}
{{- with $v.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- with .extra }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Mounts of every container, and below the volumes they are of. Folders that are written to are
volumes, because the image is not. */}}
{{- define "forebay.mounts" -}}
{{- $v := .Values -}}
- name: models
  mountPath: /etc/forebay/models.toml
  subPath: models.toml
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if $v.home.existingClaim }}
- name: home
  mountPath: {{ $v.home.path }}
{{- else }}
{{- range list "checks" "described" "files" "footprints" "tensorrt" }}
- name: written
  mountPath: {{ $v.home.path }}/{{ . }}
  subPath: {{ . }}
{{- end }}
{{- if $v.home.artifactsClaim }}
- name: artifacts
  mountPath: {{ $v.home.path }}/artifacts
  readOnly: true
{{- end }}
{{- end }}
{{- if $v.redis.tlsSecret }}
- name: redis-tls
  mountPath: /etc/forebay/redis-tls
  readOnly: true
{{- end }}
{{- with $v.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "forebay.volumes" -}}
{{- $v := .Values -}}
- name: models
  configMap:
    name: {{ include "forebay.fullname" . }}-models
- name: tmp
  emptyDir: {}
{{- if $v.home.existingClaim }}
- name: home
  persistentVolumeClaim:
    claimName: {{ $v.home.existingClaim }}
{{- else }}
- name: written
  emptyDir: {}
{{- if $v.home.artifactsClaim }}
- name: artifacts
  persistentVolumeClaim:
    claimName: {{ $v.home.artifactsClaim }}
    readOnly: true
{{- end }}
{{- end }}
{{- if $v.redis.tlsSecret }}
- name: redis-tls
  secret:
    secretName: {{ $v.redis.tlsSecret }}
{{- end }}
{{- with $v.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What all pods have. Takes root and told (the component's values). */}}
{{- define "forebay.pod" -}}
{{- $v := .root.Values -}}
serviceAccountName: {{ include "forebay.serviceAccount" .root }}
automountServiceAccountToken: false
# Variables that Kubernetes makes of a service's name would be taken for settings: FOREBAY_PORT.
enableServiceLinks: false
securityContext:
  {{- toYaml $v.podSecurityContext | nindent 2 }}
{{- with $v.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .told.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .told.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .told.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What all containers have. Takes root and told (the component's values). */}}
{{- define "forebay.container" -}}
{{- $v := .root.Values -}}
{{- $image := mergeOverwrite (deepCopy $v.image) (.told.image | default dict) -}}
image: {{ printf "%s:%s" $image.repository ($image.tag | default .root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ $image.pullPolicy }}
securityContext:
  {{- toYaml $v.containerSecurityContext | nindent 2 }}
{{- with $v.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Of a pod's annotations: a change that it has to start anew for, and one's own. */}}
{{- define "forebay.annotations" -}}
{{- $all := dict "forebay/checksum" (sha256sum .checksum) -}}
{{- toYaml (merge $all (.told.podAnnotations | default dict)) -}}
{{- end -}}

{{/* What a gateway's environment has beside what all have. */}}
{{- define "forebay.gatewayEnv" -}}
{{- $gateway := .Values.gateway -}}
- name: FOREBAY_HOST
  value: {{ $gateway.host | quote }}
- name: FOREBAY_PORT
  value: {{ int $gateway.port | quote }}
{{- if $gateway.grpc.enabled }}
- name: FOREBAY_GRPC_PORT
  value: {{ int $gateway.grpc.port | quote }}
{{- end }}
- name: FOREBAY_AUTH
  value: {{ $gateway.auth }}
{{- if eq $gateway.auth "none" }}
- name: FOREBAY_ALLOW_ANONYMOUS
  value: "true"
{{- end }}
{{- end -}}

{{/* A PodDisruptionBudget. Takes root, name, component and, of a worker, slug. */}}
{{- define "forebay.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels:
    {{- include "forebay.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .root.Values.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "forebay.selector" . | nindent 6 }}
      {{- with .slug }}
      forebay/model: {{ . }}
      {{- end }}
{{- end -}}
