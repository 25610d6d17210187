"""Run by Blender's Python: import a BVH or GLB as its user would, and save where bones or vertices are at each of the given times.

blender_reads.py FILE OUT.npz TIME...: seconds for a GLB, frames (from 0) for a BVH. Blender has z up: x, -z, y of the file.
"""

from __future__ import annotations

import sys

import bpy
import numpy as np


def main(path: str, out: str, times: list[float]) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    if path.endswith(".bvh"):
        bpy.ops.import_anim.bvh(filepath=path)
    else:
        scene.render.fps = 1000  # the importer counts in frames
        bpy.ops.import_scene.gltf(filepath=path)
    armature = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    mesh = next((o for o in bpy.data.objects if o.type == "MESH" and o.find_armature()), None)
    names = [bone.name for bone in armature.pose.bones]
    bones, vertices = [], []
    for time in times:
        frame = time + 1 if path.endswith(".bvh") else time * scene.render.fps / scene.render.fps_base
        scene.frame_set(int(frame), subframe=frame - int(frame))
        armature_now = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
        bones.append([list(armature_now.matrix_world @ armature_now.pose.bones[name].head) for name in names])
        if mesh is not None:
            mesh_now = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
            vertices.append([list(mesh_now.matrix_world @ vertex.co) for vertex in mesh_now.data.vertices])
    np.savez(out, names=np.array(names), bones=np.array(bones), vertices=np.array(vertices), version=bpy.app.version_string)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [float(word) for word in sys.argv[3:]])
