{
  # node-gyp and prebuildify come in here; the sources and flags are in CMakeLists.txt alone.
  "targets": [
    {
      "target_name": "cria",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/cria.node"],
          "action": ["node", "cmake/gyp_bridge.mjs", "<(PRODUCT_DIR)"]
        }
      ]
    }
  ]
}
